package worker

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"sync/atomic"
	"time"

	"llamero/engine"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// message is a frame of the running step.
type message struct {
	kind  kind
	out   engine.Output
	saved saved
	err   error // kindDone: how the step ended
}

// engineChild is the gateway's side of an engine's process. One goroutine calls step.
type engineChild struct {
	*link
	messages chan message
	steps    atomic.Int64 // that have ended

	hung   time.Duration // see Options
	ready  ready
	layout layout // of the pages; zero without
	slab   []byte
	ring   []byte

	unsaved []int32 // pages of the running plan that are to come, in its order
}

// maxPending is how many frames of a step may wait to be looked at.
const maxPending = 64

func (c *engineChild) lifeline() *link { return c.link }

func (c *engineChild) worked() bool { return c.steps.Load() > 0 }

// handle is called on the link's goroutine.
func (c *engineChild) handle(k kind, b []byte) (err error) {
	m := message{kind: k}
	switch k {
	case kindOutput:
		m.out, err = decodeOutput(b)
	case kindSaved:
		m.saved, err = decodeSaved(b)
	case kindDone:
		m.err, err = decodeResult(b)
	default:
		return fmt.Errorf("a frame of kind %d", k)
	}
	if err != nil {
		return fmt.Errorf("a frame of kind %d: %w", k, err)
	}
	select {
	case c.messages <- m:
		return nil
	case <-c.exited: // nobody may be listening; what it said before is in the channel
		return errors.New("it ended while it spoke")
	}
}

// How long a child may take for a step: far longer than such steps have taken, since
// a machine may be busy; longer still while it is new, since the first steps compile
// and touch memory, and before anything is known.
const (
	patience      = 20 // times what is expected
	leastPatience = 10 * time.Second
	newPatience   = time.Minute
	newSteps      = 32
	blindPatience = 5 * time.Minute
)

func (c *engineChild) patience(p *engine.Plan) time.Duration {
	switch {
	case c.hung > 0:
		return c.hung
	case p.Expected <= 0:
		return blindPatience
	}
	least := leastPatience
	if c.steps.Load() < newSteps {
		least = newPatience
	}
	return min(max(patience*time.Duration(min(p.Expected, int64(time.Hour))), least), time.Hour)
}

// step runs a plan on the child.
func (c *engineChild) step(ctx context.Context, p engine.Plan, emit func(engine.Output)) error {
	select {
	case <-c.gone:
		return c.lost(false, false)
	default:
	}
	patience := c.patience(&p)
	c.arm(patience)
	defer c.disarm()
	c.unsaved = nil
	for i := range p.Edits {
		if e := &p.Edits[i]; e.Kind == engine.EditSave {
			for _, page := range e.Pages {
				if page >= 0 {
					c.unsaved = append(c.unsaved, page)
				}
			}
		}
	}
	b := c.out.begin(kindPlan)
	ended := byte(0)
	if ctx.Err() != nil {
		ended = 1
	}
	c.out.end(appendPlan(append(b, ended), &p))
	if err := c.out.send(); err != nil {
		return c.lost(false, false)
	}
	edited := len(p.Edits) == 0
	cancelled := ctx.Done()
	for pass := 0; ; {
		m, ok := c.receive(&cancelled)
		if !ok {
			return c.lost(true, edited)
		}
		var err error
		switch m.kind {
		case kindSaved:
			if err = c.land(&m.saved); err == nil {
				edited = m.saved.last
			}
		case kindOutput:
			if !edited {
				err = errors.New("a pass ran before the edits were done")
			} else if err = c.checkOutput(&p, pass, &m.out); err == nil {
				pass++
				emit(m.out)
			}
		case kindDone:
			c.steps.Add(1)
			if m.err == nil && pass < max(1, len(p.Passes)) {
				err = fmt.Errorf("a step ended after %d of %d passes", pass, len(p.Passes))
				break
			}
			return m.err
		}
		if err != nil {
			c.abort("it broke the protocol: " + err.Error())
			return c.lost(true, edited)
		}
		c.arm(patience)
	}
}

// lost waits for the child's end, which is near, and says why it came.
func (c *engineChild) lost(begun, edited bool) error {
	<-c.gone
	return &engine.LostError{Reason: c.reason(), Begun: begun, Edited: edited}
}

// receive returns the next message, or false once the child is gone and has no more.
func (c *engineChild) receive(cancelled *<-chan struct{}) (message, bool) {
	for {
		select {
		case m := <-c.messages:
			return m, true
		case <-*cancelled:
			*cancelled = nil
			_ = c.out.put(kindCancel) // if it cannot be told, it is gone
		case <-c.gone:
			select {
			case m := <-c.messages:
				return m, true
			default:
				return message{}, false
			}
		}
	}
}

// land copies pages from the ring to their places. What the copy is worth is checked
// on the copy: the child may write the ring at any time.
func (c *engineChild) land(s *saved) error {
	for _, p := range s.pages {
		if len(c.unsaved) == 0 || p.page != c.unsaved[0] || p.page >= c.layout.pages || p.slot < 0 || p.slot >= c.layout.slots {
			return fmt.Errorf("page %d, which was not to come now, in place %d of the ring", p.page, p.slot)
		}
		c.unsaved = c.unsaved[1:]
		at := int64(p.page) * c.layout.pageBytes
		populate(c.slab, at, at+c.layout.pageBytes)
		page := c.slab[at:][:c.layout.pageBytes]
		copy(page, c.layout.slot(c.ring, p.slot))
		if crc32.Checksum(page, castagnoli) != p.sum {
			return fmt.Errorf("page %d has another checksum than it said", p.page)
		}
	}
	if s.last && len(c.unsaved) > 0 {
		return fmt.Errorf("%d pages were not saved", len(c.unsaved))
	}
	if !s.last {
		if err := c.out.put(kindTaken); err != nil {
			return err
		}
	}
	return nil
}

// checkOutput holds an output against the plan: what a scheduler counts on.
func (c *engineChild) checkOutput(p *engine.Plan, pass int, o *engine.Output) error {
	if o.Step != p.Step {
		return fmt.Errorf("an output of step %d in step %d", o.Step, p.Step)
	}
	if len(p.Passes) == 0 {
		if o.Pass != -1 || pass > 0 || len(o.Rows) > 0 {
			return fmt.Errorf("output %d of a plan without passes is of pass %d", pass, o.Pass)
		}
		return nil
	}
	if o.Pass != pass || pass >= len(p.Passes) || len(o.Rows) != len(p.Passes[pass].Rows) {
		return fmt.Errorf("an output of pass %d with %d rows where that of pass %d was to come", o.Pass, len(o.Rows), pass)
	}
	for i := range o.Rows {
		r, want := &o.Rows[i], &p.Passes[pass].Rows[i]
		most := 0
		if want.Sample {
			most = 1 + len(want.Guess) + int(want.Draft)
		}
		scores := 0
		if want.Score {
			scores = len(want.Tokens)
		}
		if n := len(r.Drafted); r.Slot != want.Slot || len(r.Sampled) > most || len(r.Scores) > scores || n != 0 && n != int(want.Draft) {
			return fmt.Errorf("row %d of pass %d is not what was asked for", i, pass)
		}
		if end := int(want.Pos) + len(want.Tokens) + max(0, len(r.Sampled)-1); r.Read < 0 || int(r.Read) > end {
			return fmt.Errorf("the draft of row %d of pass %d has read %d of %d tokens", i, pass, r.Read, end)
		}
		// Where nothing was drafted, what held the place may be right all the same.
		guess := want.Guess
		if want.Draft > 0 {
			guess = r.Drafted
		}
		for j := 1; j < len(r.Sampled) && len(guess) > 0; j++ {
			if r.Sampled[j-1].Token != guess[j-1] {
				return fmt.Errorf("row %d of pass %d goes on behind a guess that was wrong", i, pass)
			}
		}
		for _, list := range [2][]engine.Sampled{r.Sampled, r.Scores} {
			for _, s := range list {
				if err := c.checkSampled(&s); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (c *engineChild) checkSampled(s *engine.Sampled) error {
	known := func(t engine.Token) bool { return t >= 0 && int(t) < c.ready.Limits.Vocab }
	ok := known(s.Token)
	for _, t := range s.Top {
		ok = ok && known(t.Token)
	}
	if !ok {
		return fmt.Errorf("token %d of a vocabulary of %d", s.Token, c.ready.Limits.Vocab)
	}
	return nil
}
