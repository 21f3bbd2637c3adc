package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"llamero/engine"
)

// server is the child's side of an engine's process. Plans are run on one goroutine,
// while another one reads: it sees cancellations, and the gateway's end.
type server struct {
	eng     engine.Engine
	out     *frameWriter
	staging *staging // nil without pages

	taken chan struct{} // capacity 1: the gateway has copied the ring

	// Of the running step.
	step  uint64
	last  int           // its last pass, -1 if it has none
	edits time.Duration // what its edits took; 0 once said
	err   error         // of the socket
}

// job is a plan to run.
type job struct {
	ctx  context.Context
	plan *engine.Plan
}

// serveEngine loads a model and runs the plans that come.
func serveEngine(b Backend, h hello, in *frameReader, out *frameWriter) error {
	s := &server{out: out, taken: make(chan struct{}, 1)}
	r, err := s.load(b, h)
	if err != nil {
		return sendReady(out, failed(err))
	}
	if err := sendReady(out, r); err != nil {
		return err
	}
	jobs := make(chan job)
	go func() { end(s.read(in, jobs)) }()
	for j := range jobs {
		err := s.run(j.ctx, j.plan)
		out.end(appendResult(out.begin(kindDone), err))
		if err := errors.Join(out.send(), s.err); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) load(b Backend, h hello) (r ready, err error) {
	o := h.Options
	if h.Slab > 0 {
		slab, ring := os.NewFile(slabFD, "pages"), os.NewFile(ringFD, "ring")
		if o.Slab, err = mapRegion(slab, ring, h.Slab, h.Ring); err != nil {
			return r, err
		}
		slab.Close()
		ring.Close()
	}
	e, err := b.Engine(o)
	if err != nil {
		return r, err
	}
	s.eng = e
	r = ready{Limits: e.Limits(), Info: e.Info(), Form: e.Form()}
	if err := e.Unpaged(); err != nil {
		r.Unpaged = err.Error()
	}
	if r.Limits.Pages == 0 {
		return r, nil
	}
	l := newLayout(h.Slab, h.Ring, int64(r.Limits.PageBytes))
	if l.pages < 1 || l.slots < 1 {
		r.Unpaged = fmt.Sprintf("%d MiB of memory and %d MiB for saves hold no pages of %d KiB", h.Slab>>20, h.Ring>>20, r.Limits.PageBytes>>10)
		r.Form, r.Limits.Pages, r.Limits.PageTokens, r.Limits.PageBytes = "", 0, 0, 0
		return r, nil
	}
	r.Limits.Pages = int(l.pages)
	s.staging = newStaging(l, o.Slab, r.Limits.PageTokens)
	return r, nil
}

// read hands plans on until the gateway goes.
func (s *server) read(in *frameReader, jobs chan<- job) error {
	var decoder planDecoder
	stop := func() {}
	for {
		k, b, err := in.next()
		if err != nil {
			return err
		}
		switch k {
		case kindPlan:
			// The step before has ended: its plan's memory is free.
			if len(b) == 0 {
				return errMalformed
			}
			p, err := decoder.decode(b[1:])
			if err != nil {
				return fmt.Errorf("worker: a plan: %w", err)
			}
			stop()
			ctx, cancel := context.WithCancel(context.Background())
			stop = cancel
			if b[0] == 1 {
				stop()
			}
			jobs <- job{ctx, p}
		case kindCancel:
			stop()
		case kindTaken:
			select {
			case s.taken <- struct{}{}:
			default:
				return errors.New("worker: the ring is copied twice")
			}
		default:
			return fmt.Errorf("worker: an engine was sent a frame of kind %d", k)
		}
	}
}

// run runs a plan: its edits first, as a plan of their own, so that the gateway learns
// when they are done and what they saved.
func (s *server) run(ctx context.Context, p *engine.Plan) error {
	s.step, s.last, s.edits = p.Step, len(p.Passes)-1, 0
	if len(p.Edits) > 0 {
		start := time.Now()
		if err := s.edit(p); err != nil {
			return err
		}
		s.edits = time.Since(start)
	}
	return s.eng.Step(ctx, engine.Plan{Step: p.Step, Passes: p.Passes}, s.emit)
}

// emit sends an output; the last one leaves with the step's end.
func (s *server) emit(o engine.Output) {
	o.EditNanos, s.edits = int64(s.edits), 0
	s.out.end(appendOutput(s.out.begin(kindOutput), &o))
	if o.Pass == s.last {
		s.out.hold()
		return
	}
	s.err = errors.Join(s.err, s.out.send())
}

// edit runs a plan's edits. Saves go to the ring: whenever it is full the gateway is
// told to take what is there.
func (s *server) edit(p *engine.Plan) error {
	st := s.staging
	if st == nil {
		if err := s.part(p.Edits); err != nil {
			return err
		}
		return s.report(saved{last: true})
	}
	st.reset()
	for i := range p.Edits {
		// The engine has more pages than the slab, and is given other numbers: it would
		// not see what is wrong.
		if err := p.Edits[i].CheckPages(int(st.layout.pages)); err != nil {
			// What comes before it is done, as any engine would.
			return errors.Join(s.part(st.part), err)
		}
		if err := st.add(p.Edits[i], func() error { return s.flush(false) }); err != nil {
			return err
		}
	}
	return s.flush(true)
}

// part runs some of a plan's edits.
func (s *server) part(edits []engine.Edit) error {
	if len(edits) == 0 {
		return nil
	}
	return s.eng.Step(context.Background(), engine.Plan{Step: s.step, Edits: edits}, func(engine.Output) {})
}

// flush runs the edits that have been staged and reports what they saved; unless they
// are the last it waits until the gateway has taken it.
func (s *server) flush(last bool) error {
	if err := s.part(s.staging.part); err != nil {
		return err
	}
	if err := s.report(saved{pages: s.staging.sums(), last: last}); err != nil || last {
		return err
	}
	<-s.taken // should the gateway go, the reader ends the process
	s.staging.reset()
	return nil
}

func (s *server) report(x saved) error {
	s.out.end(appendSaved(s.out.begin(kindSaved), &x))
	return s.out.send()
}
