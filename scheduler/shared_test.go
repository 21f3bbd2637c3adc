package scheduler

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"llamero/cache"
	"llamero/cache/store"
	"llamero/engine"
	"llamero/engine/enginetest"
)

// sharing are engines over one account of host pages. Between the making of a plan and
// its running the others go on, as they do when each has a goroutine.
type sharing struct {
	*rand.Rand
	t      *testing.T
	host   *cache.Host
	worlds []*world
	plans  []*engine.Plan // that have been made and not run, by world
	all    [][]Request
	ids    ID
	chats  [][]engine.Token

	fails   bool                  // the next step to run does, in the pass failsIn
	failsIn int                   // -1: before its edits
	writer  map[cache.Address]int // which world saved a page last
	across  int                   // pages that one restored and another had saved
}

// newShared has so many engines of two slots each.
func newShared(t *testing.T, seed uint64, engines int, l engine.Limits) *sharing {
	t.Helper()
	lru, err := store.NewLRU(l.Pages)
	if err != nil {
		t.Fatal(err)
	}
	s := &sharing{Rand: rand.New(rand.NewPCG(seed, 9)), t: t, host: cache.NewHost(l.Pages, l.PageTokens, lru),
		plans: make([]*engine.Plan, engines), all: make([][]Request, engines), writer: map[cache.Address]int{}, failsIn: -1}
	for i := range engines {
		w := newWorld(t, Config{Limits: l, Follow: 2 * l.PageTokens, Pages: s.host.View()})
		if i > 0 {
			w.f.Memory = s.worlds[0].f.Memory
		}
		w.f.Fail = func(_ uint64, pass int) error {
			if s.fails && pass >= s.failsIn {
				s.fails = false
				return errors.New("injected")
			}
			return nil
		}
		w.onPlan = func(p engine.Plan) { s.look(i, &p) }
		s.worlds = append(s.worlds, w)
	}
	return s
}

// look notes who reads and writes which page.
func (s *sharing) look(i int, p *engine.Plan) {
	for _, e := range p.Edits {
		for _, page := range e.Pages {
			if page < 0 {
				continue
			}
			a := s.host.Pin(page).Address
			s.host.Unpin(page)
			switch {
			case e.Kind == engine.EditSave:
				s.writer[a] = i
			case s.writer[a] != i:
				s.across++
			}
		}
	}
}

func (s *sharing) begin(i int) bool {
	plan, ok := s.worlds[i].begin()
	if ok {
		s.plans[i] = &plan
	}
	return ok
}

func (s *sharing) finish(i int) {
	plan := *s.plans[i]
	s.plans[i] = nil
	s.worlds[i].finish(plan)
	s.worlds[i].check()
}

func (s *sharing) add(i int, r Request) {
	s.worlds[i].add(r)
	s.all[i] = append(s.all[i], r)
}

// turn goes on with a conversation, whoever had it before.
func (s *sharing) turn(i int) {
	c := &s.chats[s.IntN(len(s.chats))]
	if len(*c) > 170 {
		*c = slices.Clone((*c)[:40])
	}
	*c = join(*c, prompt(s.Uint64(), 1+s.IntN(30)))
	s.ids++
	s.add(i, Request{ID: s.ids, Prompt: slices.Clip(*c), MaxTokens: 1 + s.IntN(20), Choices: 1 + s.IntN(5)/4,
		Paged: true, Root: cache.Root("test"), Sampling: engine.Sampling{Temperature: float32(s.IntN(2)), Seed: s.Uint64()}})
}

func (s *sharing) do() {
	i := s.IntN(len(s.worlds))
	switch n := s.IntN(100); {
	case n < 15:
		if s.plans[i] == nil {
			s.turn(i)
		}
	case n < 55:
		if s.plans[i] == nil {
			s.begin(i)
		}
	case n < 95:
		if s.plans[i] != nil {
			s.finish(i)
		}
	case n < 98:
		if s.plans[i] == nil && len(s.all[i]) > 0 {
			q := s.all[i][len(s.all[i])-1-s.IntN(min(4, len(s.all[i])))]
			s.worlds[i].take(s.worlds[i].s.Cancel(q.ID, s.worlds[i].now))
		}
	default:
		s.fails, s.failsIn = true, s.IntN(2)-1
	}
	if err := s.host.Check(); err != nil {
		s.t.Fatal(err)
	}
}

// end runs what is left, and then nothing may be held.
func (s *sharing) end() {
	s.t.Helper()
	s.fails = false
	for i := range s.plans {
		if s.plans[i] != nil {
			s.finish(i)
		}
	}
	for i, w := range s.worlds {
		w.run()
		for _, r := range s.all[i] {
			if !slices.Contains(w.done[r.ID], FinishError) {
				w.expect(r)
			}
		}
	}
	all := prompt(77, s.host.Stats().Pages*s.host.PageTokens())
	root := cache.Root("another")
	if got := s.host.View().Put(root, cache.Chain(root, nil, all, s.host.PageTokens()), 0, all); len(got) != s.host.Stats().Pages {
		s.t.Errorf("of %d pages %d can be had when nothing runs", s.host.Stats().Pages, len(got))
	}
}

func sharedLimits(pages int) engine.Limits {
	l := enginetest.DefaultLimits(engine.Split)
	l.Slots, l.SlotTokens, l.PassTokens, l.PageTokens, l.Pages = 2, 256, 64, 8, pages
	l.PoolTokens = l.Slots * l.SlotTokens
	return l
}

// TestSharedAccount: whatever the others restore, save and lose while a plan waits to be
// run, its requests' tokens are the reference's.
func TestSharedAccount(t *testing.T) {
	seeds, across := uint64(150), 0
	if testing.Short() {
		seeds = 15
	}
	for seed := range seeds {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := sharedLimits(8 + int(seed%50))
			if seed%3 == 0 {
				l.Layout, l.Scratch, l.PoolTokens = engine.Unified, 1, 300
			}
			s := newShared(t, seed, 2+int(seed%2), l)
			for i := range 6 {
				s.chats = append(s.chats, prompt(uint64(i%2), 40))
			}
			for range 800 {
				s.do()
			}
			s.end()
			across += s.across
		})
		if !ok {
			t.Fatalf("reproduce with: go test ./scheduler -run 'TestSharedAccount/^%d$'", seed)
		}
	}
	if across < 10*int(seeds) {
		t.Errorf("%d pages came from another engine, which proves little", across)
	}
}

// TestWaitForSaving: pages that another engine is saving are waited for, and come, or are
// computed if it fails.
func TestWaitForSaving(t *testing.T) {
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprintf("fails %v", fails), func(t *testing.T) {
			s := newShared(t, 1, 2, sharedLimits(40))
			text := prompt(1, 100)
			s.add(0, paged(1, text, 4))
			saves := false
			for !saves {
				if !s.begin(0) {
					t.Fatal("nothing was saved")
				}
				saves = slices.ContainsFunc(s.plans[0].Edits, func(e engine.Edit) bool { return e.Kind == engine.EditSave })
				if !saves {
					s.finish(0)
				}
			}
			cached := -1
			s.worlds[1].onEvents = func(events []Event) {
				for _, e := range events {
					if e.Kind == EventAdmitted {
						cached = e.Cached
					}
				}
			}
			s.add(1, paged(2, text, 4))
			if s.begin(1) {
				t.Fatal("a request runs whose pages are being saved")
			}
			s.fails = fails
			s.finish(0)
			s.end()
			if want := map[bool]int{false: 96, true: 0}[fails]; cached != want {
				t.Errorf("%d tokens cached, want %d", cached, want)
			}
		})
	}
}
