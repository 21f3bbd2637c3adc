package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gofiber/fiber/v2"

	"llamero/scheduler"
	"llamero/server/openai"
)

// generate submits a job and answers in the way that the client asked for.
func (s *Server) generate(c *fiber.Ctx, j *job) error {
	rec := recordOf(c)
	rec.Stream = j.params.Stream
	if s.drained.Load() {
		return errDraining()
	}
	if n, most := len(j.prompts)*j.params.N, j.model.Loop.Capacity(); n > most {
		return openai.Invalid("n", "the request asks for %d answers in all; the server holds at most %d at once", n, most)
	}
	rec.Answer.ID, rec.Answer.Submitted = j.head.ID, time.Now()
	stream, err := s.submit(j, rec.Key)
	if err != nil {
		return err
	}
	w := s.watch.add(c.Context().Conn(), stream.Cancel)
	j.content = s.opt.Content
	g := newGeneration(j, stream, rec, w.gone.Load)
	if j.params.Stream {
		return s.stream(c, g, w)
	}
	defer s.watch.remove(w)
	for g.left > 0 && g.err == nil {
		events, err := stream.Next(context.Background()) // the watcher cancels for us
		g.apply(events)
		if err != nil && g.left > 0 {
			g.fail(brokenOff(err))
		}
	}
	g.account()
	if g.err != nil {
		return s.whole(c, g.err)
	}
	return sendJSON(c, openai.AppendAnswer(nil, &j.head, g.answers(), g.usage))
}

// whole ends a request that failed before anything was sent.
func (s *Server) whole(c *fiber.Ctx, err error) error {
	rec := recordOf(c)
	if errors.Is(err, errGone) {
		rec.Status = StatusClientGone
		c.Context().SetConnectionClose()
		return nil
	}
	if wire := toWire(err); wire.Status >= 500 {
		rec.Err = err
	}
	return err
}

// brokenOff is the error of a stream that ended before its choices did.
func brokenOff(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("the stream ended before its answers did: %w", err)
	}
	return fmt.Errorf("reading the stream: %w", err)
}

// submit hands a job's prompts in: all of them, or none.
func (s *Server) submit(j *job, tenant string) (Stream, error) {
	reqs, err := j.requests(tenant)
	if err != nil {
		return nil, err
	}
	j.release()
	streams := make([]Stream, 0, len(reqs))
	for _, r := range reqs {
		st, err := j.model.Loop.Submit(r, s.opt.QueueTimeout)
		if err != nil {
			for _, earlier := range streams {
				earlier.Cancel()
			}
			return nil, about(j.promptParam(), err)
		}
		streams = append(streams, st)
	}
	switch len(streams) {
	case 0:
		return nothing{}, nil
	case 1:
		return streams[0], nil
	}
	return newFanIn(streams, j.params.N), nil
}

func (j *job) promptParam() string {
	if j.head.Shape == openai.Chat {
		return "messages"
	}
	return "prompt"
}

// nothing is the Stream of a job that needs no computing.
type nothing struct{}

func (nothing) Next(context.Context) ([]scheduler.Event, error) { return nil, io.EOF }
func (nothing) Cancel()                                         {}
func (nothing) CancelChoice(int)                                {}
