package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"llamero/scheduler"
	"llamero/server/openai"
)

// stream answers with server-sent events. It waits for the first sign of life from
// the scheduler, so that a request that fails in the queue gets a proper status;
// when that takes longer than a ping, the stream begins without.
func (s *Server) stream(c *fiber.Ctx, g *generation, w *watch) error {
	p := newPulse(s.opt.PingInterval)
	events, err := g.first(p)
	if err == nil {
		g.apply(events)
		err = g.err
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		g.fail(err)
		g.account()
		p.stop()
		s.watch.remove(w)
		return s.whole(c, err)
	}
	b := &body{srv: s, ctx: c.Context(), gen: g, watch: w, pulse: p,
		chunks: openai.NewChunks(&g.head, len(g.choices), g.params.IncludeUsage)}
	c.Context().SetContentType(typeStream)
	c.Set(fiber.HeaderCacheControl, "no-cache")
	c.Set("X-Accel-Buffering", "no") // nginx
	c.Status(http.StatusOK)
	g.rec.Status = http.StatusOK
	// A chat's first chunk is due at once; a text completion has nothing to say yet.
	c.Response().ImmediateHeaderFlush = g.head.Shape == openai.Text && !g.echo
	c.Context().SetBodyStream(b, -1)
	return nil
}

// first pulls for the first time, if there is anything to pull.
func (g *generation) first(ctx context.Context) ([]scheduler.Event, error) {
	if g.left == 0 {
		return nil, nil
	}
	events, err := g.stream.Next(ctx)
	if errors.Is(err, io.EOF) {
		err = brokenOff(err)
	}
	return events, err
}

// body is a stream's response body. fasthttp calls WriteTo on the connection's
// goroutine; the handler has returned by then and its fiber.Ctx is not touched.
type body struct {
	srv    *Server
	ctx    *fasthttp.RequestCtx // valid until the response is written
	gen    *generation
	watch  *watch
	pulse  *pulse
	chunks *openai.Chunks

	w        io.Writer
	buf      []byte
	deadline time.Time // of the current write deadline
	ended    bool
}

var _ fasthttp.BodyWriterTo = (*body)(nil)

// SupportsBodyWriteTo makes fasthttp call WriteTo, each of whose writes is a chunk
// that is flushed.
func (b *body) SupportsBodyWriteTo() bool { return true }

// Read is what a body stream must have; fasthttp does not call it.
func (b *body) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

// Close ends a stream that was not written: the client went before the headers.
func (b *body) Close() error {
	b.end()
	return nil
}

// WriteTo writes the events until all answers have ended. An error closes the
// connection.
func (b *body) WriteTo(w io.Writer) (n int64, err error) {
	defer b.end()
	defer func() {
		if p := recover(); p != nil {
			b.gen.fail(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			err = b.gen.err
		}
	}()
	b.w = w
	g := b.gen
	for i := range g.choices {
		b.buf = b.chunks.AppendRole(b.buf, i)
	}
	for {
		b.collect()
		switch {
		case errors.Is(g.err, errGone):
			return n, g.err
		case g.err != nil:
			// In the stream, since the status is long out. No [DONE] after it.
			b.buf = openai.AppendFailure(b.buf, toWire(g.err))
			return n, b.flush(&n)
		case g.left == 0:
			if g.params.IncludeUsage {
				b.buf = b.chunks.AppendUsage(b.buf, g.usage)
			}
			b.buf = append(b.buf, openai.Done...)
			return n, b.flush(&n)
		}
		if len(b.buf) > 0 {
			if err := b.flush(&n); err != nil {
				return n, err
			}
		}
		events, err := g.stream.Next(b.pulse)
		g.apply(events)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			b.buf = append(b.buf, openai.Ping...)
		case err != nil && g.left > 0:
			g.fail(brokenOff(err))
		}
	}
}

// collect appends a chunk for each choice that has something new to say.
func (b *body) collect() {
	g := b.gen
	for i := range g.choices {
		c := &g.choices[i]
		if c.closed || c.waits || (len(c.text) == 0 && c.released == 0 && c.finish == "") {
			continue
		}
		n := 0
		if g.params.LogProbs {
			n = min(c.released, len(c.toks))
			if len(c.text) == 0 && n == 0 && c.finish == "" {
				continue
			}
		} else if len(c.text) == 0 && c.finish == "" {
			c.released = 0
			continue
		}
		b.buf = b.chunks.AppendDelta(b.buf, i, c.text, c.toks[:n], c.finish)
		c.text = c.text[:0]
		c.toks = c.toks[:copy(c.toks, c.toks[n:])]
		c.released = 0
		c.closed = c.finish != ""
	}
}

// flush writes what has been collected, as one chunk with one deadline.
func (b *body) flush(n *int64) error {
	now := time.Now()
	timeout := b.srv.opt.WriteTimeout
	// Setting a deadline costs as much as a small write: a quarter of it may pass.
	if b.deadline.Sub(now) < timeout-timeout/4 {
		b.deadline = now.Add(timeout)
		if err := b.ctx.SetWriteDeadline(b.deadline); err != nil {
			b.gen.fail(errGone)
			return err
		}
	}
	m, err := b.w.Write(b.buf)
	*n += int64(m)
	b.buf = b.buf[:0]
	if err != nil {
		b.gen.fail(errGone) // or does not read, which comes to the same
		return err
	}
	b.pulse.beat(now)
	return nil
}

// end is called once WriteTo has, or never will be.
func (b *body) end() {
	if b.ended {
		return
	}
	b.ended = true
	g := b.gen
	if g.left > 0 && g.err == nil {
		g.fail(errGone)
	}
	b.pulse.stop()
	b.srv.watch.remove(b.watch)
	g.account()
	switch {
	case g.err == nil:
	case errors.Is(g.err, errGone):
		g.rec.Status = StatusClientGone
	default:
		wire := toWire(g.err)
		g.rec.Status = wire.Status // not what the client saw, but what happened
		g.rec.fail(wire)
		if wire.Status >= 500 {
			g.rec.Err = g.err
		}
	}
	b.srv.end(g.rec)
}
