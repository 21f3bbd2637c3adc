package server

import (
	"time"

	"github.com/valyala/fasthttp"
)

const (
	maxSwallow  = 64 << 20
	swallowTime = 5 * time.Second
	swallowIdle = 50 * time.Millisecond
)

// swallow reads on where a body was refused for its size. A connection closed with
// unread bytes is reset, and the client, in the midst of sending, would see that
// instead of the 413, and send it all again. What is read, and for how long, has a
// bound.
func swallow(rc *fasthttp.RequestCtx) {
	conn := rc.Conn()
	left := min(rc.Request.Header.ContentLength(), maxSwallow)
	if left < 0 { // chunked
		left = maxSwallow
	}
	buf := make([]byte, 64<<10)
	for end := time.Now().Add(swallowTime); left > 0 && time.Now().Before(end); {
		// Some of the body has been read before, nobody says how much: when nothing
		// comes any more, that was all.
		if conn.SetReadDeadline(time.Now().Add(swallowIdle)) != nil {
			return
		}
		n, err := conn.Read(buf)
		if left -= n; err != nil {
			return
		}
	}
}
