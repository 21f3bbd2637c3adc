package scheduler

import (
	"errors"
	"slices"
	"testing"

	"llamero/cache"
	"llamero/engine"
	"llamero/engine/enginetest"
)

// pagedWorld has slots of 512 tokens and pages of 16, and counts what is computed.
type pagedWorld struct {
	*world
	computed int // tokens of rows that are not idle
	saves    int
	forks    int
	cached   map[ID]int
}

func newPaged(t *testing.T, slots, pages int, layout engine.Layout) *pagedWorld {
	l := enginetest.DefaultLimits(layout)
	l.Slots, l.SlotTokens, l.PoolTokens, l.PassTokens = slots, 512, slots*512, 128
	l.PageTokens, l.Pages = 16, pages
	w := &pagedWorld{world: newWorld(t, Config{Limits: l, TargetITL: 100e6, Follow: 32}), cached: map[ID]int{}}
	w.onPlan = func(p engine.Plan) {
		for _, e := range p.Edits {
			if e.Kind == engine.EditSave {
				w.saves++
			}
			if e.Kind == engine.EditFork {
				w.forks++
			}
		}
		for _, pass := range p.Passes {
			for _, r := range pass.Rows {
				if !r.Idle {
					w.computed += len(r.Tokens)
				}
			}
		}
	}
	w.onEvents = func(events []Event) {
		for _, e := range events {
			if e.Kind == EventAdmitted && e.Choice == 0 {
				w.cached[e.ID] = e.Cached
			}
		}
	}
	return w
}

func paged(id ID, prompt []engine.Token, answer int) Request {
	return Request{ID: id, Prompt: prompt, MaxTokens: answer, Paged: true, Root: cache.Root("test")}
}

func join(parts ...[]engine.Token) []engine.Token { return slices.Concat(parts...) }

// Sixteen clients with one long system prompt compute it once.
func TestSharedPrefixIsComputedOnce(t *testing.T) {
	for _, layout := range []engine.Layout{engine.Split, engine.Unified} {
		w := newPaged(t, 16, 200, layout)
		system := prompt(1, 320)
		var all []Request
		for i := range 16 {
			all = append(all, paged(ID(i+1), join(system, prompt(uint64(100+i), 24)), 10))
			w.add(all[i])
		}
		w.run()
		for _, r := range all {
			w.expect(r)
		}
		if most := 320 + 16*(24+10); w.computed > most {
			t.Errorf("%v: %d tokens computed; %d would do", layout, w.computed, most)
		}
		if w.f.Restored != 0 || w.forks != 15 {
			t.Errorf("%v: %d tokens restored, %d forks; want 15 forks of the leader", layout, w.f.Restored, w.forks)
		}
		for id, n := range w.cached {
			if want := 320; id > 1 && n != want {
				t.Errorf("%v: request %d had %d tokens cached, want %d", layout, id, n, want)
			}
		}
	}
}

// In the unified layout a prefix is in the pool once, however many go on from it, for
// as long as one of them is there; another tenant's has cells of its own.
func TestPrefixSharesCells(t *testing.T) {
	l := enginetest.DefaultLimits(engine.Unified)
	l.Slots, l.SlotTokens, l.PoolTokens, l.PassTokens = 17, 512, 1250, 128
	l.PageTokens, l.Pages = 16, 200
	w := newWorld(t, Config{Limits: l, TargetITL: 100e6, Follow: 32})
	system := prompt(1, 325)
	var all []Request
	for i := range 17 {
		r := paged(ID(i+1), join(system, prompt(uint64(100+i), 20)), 10)
		if i == 0 {
			r.MaxTokens = 2 // the leader leaves first
		}
		if i == 16 {
			r.Root = cache.Root("another")
		}
		all = append(all, r)
	}
	cached := map[ID]int{}
	w.onEvents = func(events []Event) {
		for _, e := range events {
			if e.Kind == EventAdmitted {
				cached[e.ID] = e.Cached
			}
		}
	}
	running, used := 0, 0
	w.onPlan = func(engine.Plan) {
		st := w.s.Stats()
		running, used = max(running, st.Running), max(used, st.TokensInUse)
	}
	for _, r := range all {
		w.add(r)
	}
	w.run()
	for _, r := range all {
		w.expect(r)
		want := 325
		if r.ID == 1 || r.ID == 17 {
			want = 0
		}
		if cached[r.ID] != want {
			t.Errorf("request %d had %d tokens cached, want %d", r.ID, cached[r.ID], want)
		}
	}
	if n := len(all); running < n-1 || w.s.Stats().Preemptions > 0 || used > 2*325+17*(20+10) || w.s.Stats().TokensInUse != 0 {
		t.Errorf("%d ran at once in %d cells, %+v", running, used, w.s.Stats())
	}
}

// A prompt that ends where a page does begins with all of its pages, but for the last
// token; where nothing can be cut off a slot, the last page is computed again.
func TestPromptThatEndsAPage(t *testing.T) {
	for _, layout := range []engine.Layout{engine.Split, engine.Unified} {
		for _, trims := range []bool{true, false} {
			w := newPaged(t, 2, 50, layout)
			w.s.cfg.Limits.Trims = trims
			first, again := paged(1, prompt(1, 96), 10), paged(2, prompt(1, 96), 10)
			w.add(first)
			w.run()
			before := w.computed
			w.add(again)
			w.run()
			w.expect(first)
			w.expect(again)
			want := 95
			if !trims {
				want = 80
			}
			if w.cached[2] != want || w.computed-before != 96-want+9 {
				t.Errorf("%v, trims %v: %d tokens cached, want %d; %d computed", layout, trims, w.cached[2], want, w.computed-before)
			}
		}
	}
}

// A tail that is a little short of what is computed in tiles begins early enough to be
// that long, in the split layout; one that is far from it begins behind all that is known.
func TestTailsFillTheirTile(t *testing.T) {
	for _, c := range []struct {
		layout     engine.Layout
		tail, want int // tokens cached of 160 that are known
	}{
		{engine.Split, 60, 156}, {engine.Split, 20, 160}, {engine.Split, tileRows, 160}, {engine.Unified, 60, 160},
	} {
		w := newPaged(t, 2, 50, c.layout)
		common := prompt(1, 160)
		first, second := paged(1, join(common, prompt(2, 80)), 10), paged(2, join(common, prompt(3, c.tail)), 10)
		w.add(first)
		w.run()
		before := w.computed
		w.add(second)
		w.run()
		w.expect(first)
		w.expect(second)
		if w.cached[2] != c.want || w.computed-before != 160-c.want+c.tail+9 {
			t.Errorf("%v, a tail of %d: %d tokens cached, want %d; %d computed", c.layout, c.tail, w.cached[2], c.want, w.computed-before)
		}
	}
}

// However little a token costs beside its attention, something is left to begin with: a
// fork or a restore of nothing is no plan.
func TestNobodyResumesAtNothing(t *testing.T) {
	w := newPaged(t, 2, 50, engine.Split)
	w.s.costs.chunkBase, w.s.costs.chunkToken = 0, 0
	for tokens, want := range map[int]int{tileRows: 16, tileRows + 1: 1} {
		if got := w.s.resume(&sequence{tokens: prompt(1, tokens)}, 16); got != want {
			t.Errorf("of %d tokens, 16 of them known: it goes on at %d, want %d", tokens, got, want)
		}
	}
}

// Followers' tails that fill several passes are read in one step, and as many of them
// in each pass: what is left of the last one is nobody's gain.
func TestFollowersShareTheirPasses(t *testing.T) {
	for _, c := range []struct {
		followers int
		want      []int // tails in each pass of the step
	}{{7, []int{4, 3}}, {5, []int{5}}, {26, []int{5, 5, 5, 4, 4, 3}}} {
		w := newPaged(t, 27, 200, engine.Unified)
		w.s.cfg.TargetITL = 1e9
		system := prompt(1, 320)
		var all []Request
		for i := range c.followers + 1 {
			all = append(all, paged(ID(i+1), join(system, prompt(uint64(100+i), 24)), 10))
			w.add(all[i])
		}
		var got []int
		counted := w.onPlan
		w.onPlan = func(p engine.Plan) {
			counted(p)
			if w.forks == 0 || len(got) > 0 {
				return
			}
			for _, pass := range p.Passes {
				if pass.Kind == engine.PassPrefill {
					got = append(got, len(pass.Rows))
				}
			}
		}
		w.run()
		for _, r := range all {
			w.expect(r)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%d followers were read in passes of %v, want %v", c.followers, got, c.want)
		}
	}
}

// A conversation's next turn begins where the last one ended.
func TestNextTurnBeginsWithTheAnswer(t *testing.T) {
	w := newPaged(t, 2, 200, engine.Split)
	text := prompt(1, 100)
	for turn := range 4 {
		r := paged(ID(turn+1), text, 30)
		before := w.computed
		w.add(r)
		w.run()
		w.expect(r)
		if turn > 0 {
			// All whole pages of what was in the slot; the last token drawn never was.
			if known := (len(text) - 20 - 1) / 16 * 16; w.cached[r.ID] != known {
				t.Errorf("turn %d: %d of %d tokens cached, want %d", turn, w.cached[r.ID], len(text), known)
			}
			if most := 20 + 30 + 16; w.computed-before > most {
				t.Errorf("turn %d: %d tokens computed, at most %d are new", turn, w.computed-before, most)
			}
		}
		text = join(text, w.got[r.ID][0], prompt(uint64(50+turn), 20))
	}
}

// Prompts of their own cost one reading of their slot, and wait for nobody.
func TestDisjointPromptsDoNotWait(t *testing.T) {
	w := newPaged(t, 8, 400, engine.Split)
	for i := range 8 {
		w.add(paged(ID(i+1), prompt(uint64(i), 200), 40))
	}
	w.step()
	if st := w.s.Stats(); st.Running != 8 {
		t.Errorf("%d run after a step, want all 8", st.Running)
	}
	w.run()
	if w.saves != 8 || w.f.Restored != 0 {
		t.Errorf("%d saves, %d tokens restored; want one save at each answer's end", w.saves, w.f.Restored)
	}
}

// Whoever waits goes on when the one that it waits for goes away.
func TestFollowersSurviveTheirLeader(t *testing.T) {
	for _, fate := range []string{"cancelled", "failed"} {
		w := newPaged(t, 4, 200, engine.Split)
		system := prompt(1, 320)
		var all []Request
		for i := range 3 {
			all = append(all, paged(ID(i+1), join(system, prompt(uint64(100+i), 24)), 10))
			w.add(all[i])
		}
		w.step()
		w.step()
		if st := w.s.Stats(); st.Running != 1 || st.Waiting != 2 {
			t.Fatalf("%+v: two should wait for one", st)
		}
		if fate == "cancelled" {
			w.take(w.s.Cancel(1, w.now))
		} else {
			w.f.Fail = func(uint64, int) error { w.f.Fail = nil; return errors.New("injected") }
		}
		w.run()
		for _, r := range all[1:] {
			w.expect(r)
			if w.done[r.ID][0] != FinishLength {
				t.Errorf("%s: request %d ended with %v", fate, r.ID, w.done[r.ID][0])
			}
		}
		if most := 2*320 + 3*40 + w.s.cfg.Limits.PassTokens; w.computed > most { // what the failed step computed is lost
			t.Errorf("%s: %d tokens computed, at most %d were to be", fate, w.computed, most)
		}
	}
}

// What a root keeps apart is never shared.
func TestRootsDoNotShare(t *testing.T) {
	w := newPaged(t, 4, 200, engine.Split)
	text := prompt(1, 200)
	for i, tenant := range []string{"a", "b", "a"} {
		r := paged(ID(i+1), text, 5)
		r.Root = cache.Root("test", tenant)
		w.add(r)
		w.run()
		if got, want := w.cached[r.ID] > 0, i == 2; got != want {
			t.Errorf("request %d of %s: %d tokens cached", i, tenant, w.cached[r.ID])
		}
	}
	plain := paged(9, text, 5)
	plain.Paged = false
	w.add(plain)
	w.run()
	if w.cached[9] != 0 {
		t.Error("a request that is not paged had pages")
	}
}

// A step that fails leaves no page that was not written.
func TestFailedStepForgetsItsPages(t *testing.T) {
	w := newPaged(t, 2, 200, engine.Split)
	text := prompt(1, 200)
	failed := false
	w.onPlan = func(p engine.Plan) {
		for _, e := range p.Edits {
			if e.Kind == engine.EditSave && !failed {
				failed = true
				w.f.Fail = func(uint64, int) error { w.f.Fail = nil; return errors.New("injected") }
			}
		}
	}
	for i := range 3 {
		r := paged(ID(i+1), text, 12)
		w.add(r)
		w.run()
		w.expect(r)
	}
	if !failed || w.f.Restored == 0 {
		t.Errorf("failed %v, %d tokens restored", failed, w.f.Restored)
	}
}

// A preempted sequence comes back from its pages.
func TestPreemptedSequenceIsRestored(t *testing.T) {
	w := newPaged(t, 4, 400, engine.Unified)
	w.s.cfg.Limits.PoolTokens = 600
	var all []Request
	for i := range 4 {
		all = append(all, paged(ID(i+1), prompt(uint64(i), 130), 150))
		w.add(all[i])
	}
	w.run()
	for _, r := range all {
		w.expect(r)
	}
	if st := w.s.Stats(); st.Preemptions == 0 {
		t.Fatal("nothing was preempted")
	}
	if least, most := 4*280, 4*280+w.s.preemptions*20; w.computed > most {
		t.Errorf("%d tokens computed, %d are needed: what was preempted %d times was computed again", w.computed, least, w.s.preemptions)
	}
}

// The control: a page that holds something else changes the answer, so the tests
// above would see it.
func TestSpoiltPagesAreSeen(t *testing.T) {
	w := newPaged(t, 2, 200, engine.Split)
	text := prompt(1, 200)
	first := paged(1, text, 12)
	w.add(first)
	w.run()
	w.page(3)[0]++
	second := paged(2, text, 12)
	w.add(second)
	w.run()
	if slices.Equal(w.got[1][0], w.got[2][0]) {
		t.Error("a spoilt page went unseen")
	}
}

// Memory for fewer pages than there is to publish: nothing breaks, and what is used
// most stays.
func TestSmallMemory(t *testing.T) {
	w := newPaged(t, 4, 24, engine.Split) // 384 tokens
	system := prompt(1, 160)
	id := ID(0)
	for round := range 12 {
		for i := range 3 {
			id++
			r := paged(id, join(system, prompt(uint64(1000+round*10+i), tileRows)), 8)
			w.add(r)
		}
		w.run()
	}
	hits := 0
	for _, n := range w.cached {
		if n >= 160 {
			hits++
		}
	}
	if hits < 30 {
		t.Errorf("%d of 36 requests had the common prompt cached", hits)
	}
	if st := w.s.cfg.Pages.Stats(); st.Evictions == 0 || st.Used > st.Pages {
		t.Errorf("%+v", st)
	}
}

// What one gateway computed, another has from the remote tier; and while one request
// looks there, others that want the same pages wait for it.
func TestFetch(t *testing.T) {
	first, second := newPaged(t, 4, 200, engine.Split), newPaged(t, 4, 200, engine.Split)
	remote := map[cache.Address][]byte{}
	for _, w := range []*pagedWorld{first, second} {
		w.remote, w.s.cfg.KeepSaved = remote, true
	}
	system := prompt(1, 320)
	r := paged(1, join(system, prompt(2, 24)), 10)
	first.add(r)
	first.run()
	if len(remote) != 344/16+1 { // the prompt's whole pages, and one with the answer's first tokens
		t.Errorf("%d pages in the remote tier", len(remote))
	}
	var all []Request
	for i := range 3 {
		all = append(all, paged(ID(i+1), join(system, prompt(uint64(10+i), 24)), 10))
		second.add(all[i])
		second.look(all[i].ID)
	}
	if len(second.fetches) != 1 || len(second.fetches[0].want) != 21 {
		t.Fatalf("fetches %+v; one for all", second.fetches)
	}
	if second.step() {
		t.Error("a step ran while all wait for pages")
	}
	second.arrive(100)
	second.run()
	for _, r := range all {
		second.expect(r)
	}
	if most := 3 * (24 + 10); second.computed > most {
		t.Errorf("%d tokens computed, at most %d were to be", second.computed, most)
	}
	// One that finds nothing, or goes away meanwhile, computes; so do its followers.
	for _, fate := range []string{"nothing", "gone"} {
		w := newPaged(t, 4, 200, engine.Split)
		w.remote = map[cache.Address][]byte{}
		for i := range 2 {
			w.add(all[i])
			w.look(all[i].ID)
		}
		if fate == "gone" {
			w.take(w.s.Cancel(1, w.now))
		}
		w.check()
		w.arrive(100)
		w.run()
		w.expect(all[1])
	}
}

// Who comes while an answer is generated need not wait for its end.
func TestLatecomerFindsARunningPrompt(t *testing.T) {
	w := newPaged(t, 4, 200, engine.Split)
	text := prompt(1, 200)
	w.add(paged(1, text, 100))
	w.until("the answer has begun", func() bool { return len(w.got[1][0]) > 5 })
	if w.saves != 0 {
		t.Errorf("%d saves that nobody wanted", w.saves)
	}
	late := paged(2, join(text, prompt(2, 30)), 5)
	w.add(late)
	w.step()
	if st := w.s.Stats(); st.Running != 2 || w.cached[2] != 200 || w.saves != 0 {
		t.Errorf("%+v, %d tokens cached after %d saves, want 200 in the next step after none", st, w.cached[2], w.saves)
	}
	w.run()
	w.expect(late)
}
