package worker

import (
	"context"
	"errors"
	"slices"

	"llamero/engine"
	"llamero/engine/llama"
)

// Errors keep their text and what they are on their way out of a child.

// maxText bounds an error's text.
const maxText = 4 << 10

// sentinels are the errors that callers ask for, by their number on the wire; 0 is
// none of them.
var sentinels = [...]error{
	nil, engine.ErrPlan, engine.ErrNoRoom, context.Canceled, context.DeadlineExceeded, llama.ErrLibrary,
}

// remoteError is a child's error.
type remoteError struct {
	text string
	is   error // one of sentinels
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.is }

// sentinel is the number of what an error is.
func sentinel(err error) byte {
	return byte(max(0, slices.IndexFunc(sentinels[:], func(s error) bool { return s != nil && errors.Is(err, s) })))
}

func clip(text string) string {
	if len(text) > maxText {
		return text[:maxText] + "…"
	}
	return text
}

// appendResult encodes how something ended.
func appendResult(b []byte, err error) []byte {
	if err == nil {
		return append(b, 1)
	}
	return append(append(b, 0, sentinel(err)), clip(err.Error())...)
}

// decodeResult returns how something ended; bad says that the bytes are not that.
func decodeResult(b []byte) (result error, bad error) {
	d := decoder{b: b}
	if d.byte() == 1 {
		return nil, d.end()
	}
	code := int(d.byte())
	if d.bad || code >= len(sentinels) || len(d.b) > maxText+len("…") {
		return nil, errMalformed
	}
	return &remoteError{string(d.b), sentinels[code]}, nil
}
