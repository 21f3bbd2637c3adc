package loop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"llamero/cache"
	"llamero/engine"
	"llamero/engine/enginetest"
	"llamero/scheduler"
)

// moody is a shelf whose answers take as long as the first page that is asked for says,
// or never come, and whose writes are slow, or dropped.
type moody struct {
	*shelf
	never bool
}

func (m *moody) Get(ctx context.Context, want []cache.Wanted) ([][]byte, func(), error) {
	takes := time.Duration(want[0].Address[0]) * time.Millisecond
	if m.never {
		takes = time.Hour
	}
	wait := time.NewTimer(takes)
	defer wait.Stop()
	select {
	case <-wait.C:
		return m.shelf.Get(ctx, want)
	case <-ctx.Done():
		return nil, func() {}, ctx.Err()
	}
}

func (m *moody) Put(a cache.Address, tokens []cache.Token, kv []byte, release func()) {
	if a[1]%8 == 0 {
		release()
		return
	}
	go func() {
		time.Sleep(time.Duration(a[1]) * 10 * time.Millisecond)
		m.shelf.Put(a, tokens, kv, release)
	}()
}

// tally counts how requests end. It is safe for concurrent use.
type tally struct {
	mu    sync.Mutex
	times map[string]int
}

func (c *tally) add(what string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times[what] += n
}

// storm is a loop with clients that come and go, on an engine that fails.
type storm struct {
	*rand.Rand // for what is decided before it begins
	*tally
	t      *testing.T
	l      *Loop
	e      *mortal
	tier   *moody
	faults atomic.Int32 // steps that failed
	cut    bool         // the loop is closed while it works
	gone   bool         // the engine is lost for good, at some time
}

func newStorm(t *testing.T, seed uint64, seen *tally) *storm {
	s := &storm{Rand: rand.New(rand.NewPCG(seed, 41)), tally: seen, t: t}
	l := enginetest.DefaultLimits([]engine.Layout{engine.Split, engine.Unified}[s.IntN(2)])
	l.Slots = 1 + s.IntN(6)
	l.PoolTokens = l.Slots * l.SlotTokens
	if l.Layout == engine.Unified {
		l.PoolTokens = l.SlotTokens * (1 + s.IntN(3))
	}
	l.Pages = 1 + s.IntN(48)
	s.e = &mortal{timed: &timed{Fake: enginetest.NewFake(l)}}
	s.tier = &moody{shelf: &shelf{pages: map[cache.Address][]byte{}}, never: s.IntN(8) == 0}
	opt := Options{Queue: 1 + s.IntN(30), QueueWait: time.Duration(s.IntN(2)) * 20 * time.Second, TargetITL: 100 * time.Millisecond}
	if s.IntN(4) > 0 {
		opt.Pages = pagesOf(t, s.e.timed, s.tier)
	}
	s.l = start(t, s.e, opt)
	s.weather(seed)
	return s
}

// weather is how often the engine fails, and how.
func (s *storm) weather(seed uint64) {
	if s.IntN(4) == 0 {
		return // never
	}
	rare := 10 + s.IntN(150)
	s.gone = s.IntN(12) == 0
	gone := s.gone
	r := rand.New(rand.NewPCG(seed, 42)) // the loop's goroutine's
	s.e.Fail = func(_ uint64, pass int) error {
		if r.IntN(rare) > 0 {
			return nil
		}
		s.faults.Add(1)
		if r.IntN(2) == 0 {
			return errors.New("injected")
		}
		s.e.away = time.Duration(r.IntN(4000)) * time.Millisecond
		if gone {
			s.e.away = -1
		}
		s.e.down.Store(true)
		return &engine.LostError{Reason: "killed", Begun: true, Edited: pass >= 0}
	}
}

// client is one request's life: it comes, reads as fast as it can or slowly, and may go.
func (s *storm) client(r *rand.Rand, q scheduler.Request) {
	t := s.t
	time.Sleep(time.Duration(r.IntN(4000)) * time.Millisecond)
	if r.IntN(3) == 0 {
		release, err := s.l.Hold()
		if err != nil {
			return
		}
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		release()
	}
	stream, err := s.l.Submit(q, time.Duration(r.IntN(2)*r.IntN(5000))*time.Millisecond)
	if err != nil {
		if !errors.Is(err, scheduler.ErrQueueFull) && !(s.cut && errors.Is(err, ErrDraining)) {
			t.Errorf("refused: %v", err)
		}
		s.add("refused", 1)
		return
	}
	goes := r.IntN(4) == 0
	if goes {
		leave := time.AfterFunc(time.Duration(r.IntN(6000))*time.Millisecond, stream.Cancel)
		defer leave.Stop()
	}
	var pace time.Duration
	if r.IntN(3) == 0 {
		pace = time.Duration(r.IntN(300)) * time.Millisecond
	}
	answers := make([]answer, q.Choices)
	cancelled := make([]bool, q.Choices)
	for {
		events, err := stream.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Errorf("reading: %v", err)
			return
		}
		for _, ev := range events {
			a := &answers[ev.Choice]
			if a.finish != scheduler.FinishNone {
				t.Errorf("event %d of choice %d after its end", ev.Kind, ev.Choice)
			}
			for _, x := range ev.Tokens {
				a.tokens = append(a.tokens, x.Token)
			}
			switch ev.Kind {
			case scheduler.EventAdmitted:
				s.add("tokens spared", ev.Cached)
			case scheduler.EventLookup:
				s.add("tokens found in the remote tier", ev.Lookup.Found)
			case scheduler.EventDone:
				a.finish, a.err = ev.Finish, ev.Err
			}
		}
		if r.IntN(40) == 0 {
			c := r.IntN(q.Choices)
			cancelled[c] = true
			stream.CancelChoice(c)
		}
		time.Sleep(pace)
	}
	for c, a := range answers {
		s.judge(q, c, a, goes || cancelled[c] || s.cut)
	}
}

// judge compares an answer with what it would have been in fair weather.
func (s *storm) judge(q scheduler.Request, choice int, a answer, mayGo bool) {
	p := q.Sampling
	p.Choice += int32(choice)
	want := s.e.Reference(q.Prompt, p, q.MaxTokens)
	if len(a.tokens) > len(want) || !slices.Equal(a.tokens, want[:len(a.tokens)]) {
		s.t.Errorf("choice %d, %q: %v, want %v", choice, a.finish, a.tokens, want)
	}
	s.add(a.finish.String(), 1)
	var poison *scheduler.PoisonError
	switch {
	case a.finish == scheduler.FinishLength && len(a.tokens) == len(want):
	case a.finish == scheduler.FinishCancel && mayGo:
	case a.finish == scheduler.FinishExpired && len(a.tokens) == 0:
	case a.finish == scheduler.FinishError && errors.As(a.err, &poison) && s.faults.Load() > 2:
	case a.finish == scheduler.FinishError && errors.Is(a.err, engine.ErrLost) && s.gone:
	default:
		s.t.Errorf("choice %d ended with %q (%v) after %d of %d tokens and %d faults", choice, a.finish, a.err, len(a.tokens), len(want), s.faults.Load())
	}
}

// run has the clients come, and looks at what is left when they have gone.
func (s *storm) run() {
	t := s.t
	s.cut = s.IntN(6) == 0
	var clients sync.WaitGroup
	for i := range 1 + s.IntN(24) {
		q := request(i, 1+s.IntN(200), 1+s.IntN(40))
		if s.IntN(2) == 0 { // one of two beginnings that others have too
			q.Prompt = slices.Concat(request(1000+s.IntN(2), 120, 1).Prompt, q.Prompt)
			q.Prompt = q.Prompt[:min(len(q.Prompt), 1+s.IntN(200))]
		}
		q.Tenant, q.Priority, q.Choices = fmt.Sprint(s.IntN(2)), s.IntN(2), 1+s.IntN(6)/4
		r := rand.New(rand.NewPCG(s.Uint64(), 43))
		clients.Go(func() { s.client(r, q) })
	}
	if s.IntN(3) == 0 { // it dies while it may be idle, too
		time.Sleep(time.Duration(s.IntN(5000)) * time.Millisecond)
		s.e.down.Store(true)
	}
	if s.cut {
		time.Sleep(time.Duration(s.IntN(5000)) * time.Millisecond)
		stop(t, s.l)
	}
	clients.Wait()
	s.add("faults", int(s.faults.Load()))
	time.Sleep(time.Minute) // what is written to the tier, and has been, is let go
	synctest.Wait()
	if st := s.l.Stats(); st.Running+st.Waiting+st.TokensInUse > 0 || s.l.places.taken.Load() != 0 || s.tier.held > 0 {
		t.Errorf("left: %+v, %d places, %d pages held", st, s.l.places.taken.Load(), s.tier.held)
	}
	stop(t, s.l)
	if err := s.l.sched.Check(); err != nil {
		t.Error(err)
	}
}

// TestStorm: whatever the engine, the tiers and the clients do, on goroutines of their
// own, each request ends once, with the tokens of fair weather or for a reason, and
// nothing is held. package scheduler's TestSimulation is the same without goroutines.
func TestStorm(t *testing.T) {
	seeds := 1000
	if testing.Short() {
		seeds = 100
	}
	seen := &tally{times: map[string]int{}}
	for seed := range uint64(seeds) {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newStorm(t, seed, seen).run() })
		})
		if !ok {
			t.Fatalf("reproduce with: go test ./scheduler/loop -run 'TestStorm/^%d$'", seed)
		}
	}
	t.Log(seen.times)
	for _, what := range []string{"length", "cancelled", "expired", "error", "refused", "faults", "tokens spared", "tokens found in the remote tier"} {
		if seen.times[what] < seeds/10 {
			t.Errorf("%s: %d times, which proves little", what, seen.times[what])
		}
	}
}
