package scheduler

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"llamero/cache"
	"llamero/engine"
	"llamero/engine/enginetest"
)

// replicas are gateways that share a remote tier which forgets at random. Chats go
// on, each turn on whichever of them, while requests are cancelled, steps fail, and
// memory is too small for all.
type replicas struct {
	*rand.Rand
	t      *testing.T
	worlds []*replica
	remote map[cache.Address][]byte
	known  []cache.Address            // in remote, in the order in which they came
	writer map[cache.Address]*replica // who brought them there first
	chats  []*chat
	ids    ID
	states map[string]int // of the cache that requests met, how often
}

// replica is one of them.
type replica struct {
	*world
	asked map[ID]*asked
	all   []Request
	fails bool // the next step does
}

// asked is what a request that waits can count on.
type asked struct {
	pages   int // that are known here, or have come
	fetched bool
}

// chat is a conversation; its next turn begins with what was said.
type chat struct {
	root    cache.Address
	text    []engine.Token
	on      *replica // that answers it
	request Request  // whose answer is waited for; no ID: none is
}

const (
	replicaSlotTokens = 224
	replicaPageTokens = 8
)

func newReplicas(t *testing.T, seed uint64) *replicas {
	s := &replicas{Rand: rand.New(rand.NewPCG(seed, 21)), t: t, remote: map[cache.Address][]byte{},
		writer: map[cache.Address]*replica{}, states: map[string]int{}}
	l := enginetest.DefaultLimits([]engine.Layout{engine.Split, engine.Unified}[s.IntN(2)])
	l.Slots, l.SlotTokens, l.PassTokens = 2, replicaSlotTokens, 64
	l.PoolTokens = l.Slots * l.SlotTokens
	if l.Layout == engine.Unified {
		l.PoolTokens = l.SlotTokens * (1 + s.IntN(3)) // some are preempted
	}
	l.PageTokens, l.Pages = replicaPageTokens, 24+s.IntN(60)
	for range 3 {
		r := &replica{asked: map[ID]*asked{}, world: newWorld(t, Config{Limits: l, Follow: 2 * replicaPageTokens, KeepSaved: true})}
		r.remote = s.remote
		r.f.EOG, r.f.EOGEvery = 7, 30
		r.f.Fail = func(uint64, int) error {
			if r.fails {
				r.fails = false
				return errors.New("injected")
			}
			return nil
		}
		r.onEvents = func(events []Event) { s.admitted(r, events) }
		s.worlds = append(s.worlds, r)
	}
	for i := range 16 {
		c := &chat{root: cache.Root("test", fmt.Sprint(i%2))}
		s.begin(c)
		s.chats = append(s.chats, c)
	}
	return s
}

// begin starts a chat anew, with one of two system prompts.
func (s *replicas) begin(c *chat) {
	c.text = join(prompt(uint64(s.IntN(2)), 40), prompt(s.Uint64(), 1+s.IntN(30)))
}

// turn asks on whichever replica, where the last answer was whole.
func (s *replicas) turn(c *chat) {
	if c.request.ID != 0 {
		finish := c.on.done[c.request.ID][0]
		if finish == FinishNone {
			return
		}
		c.text = join(c.text, c.on.got[c.request.ID][0], prompt(s.Uint64(), 1+s.IntN(20)))
		if finish != FinishLength && finish != FinishStop || len(c.text) > replicaSlotTokens-40 {
			s.begin(c)
		}
	}
	s.ids++
	c.on = s.worlds[s.IntN(len(s.worlds))]
	c.request = Request{
		ID: s.ids, Tenant: c.root.String(), Prompt: slices.Clip(c.text), MaxTokens: 1 + s.IntN(20), Choices: 1 + s.IntN(5)/4,
		Stop: []engine.Token{7}, Paged: true, Root: c.root,
		Sampling: engine.Sampling{Temperature: float32(s.IntN(2)), Seed: s.Uint64()},
	}
	r := c.on
	r.add(c.request)
	r.all = append(r.all, c.request)
	q := r.s.requests[s.ids].sequences[0]
	a := &asked{pages: r.s.known(q)}
	r.asked[s.ids] = a
	fetches := len(r.fetches)
	r.look(s.ids)
	a.fetched = len(r.fetches) > fetches
}

// arrive ends a search, of which some pages may come too late, and notes what it
// found.
func (s *replicas) arrive(r *replica, most int) {
	if len(r.fetches) == 0 {
		return
	}
	f := r.fetches[0]
	found := 0
	for found < min(most, len(f.want)) && s.remote[f.want[found].Address] != nil {
		if s.writer[f.want[found].Address] != r {
			s.states["another replica's"]++
		}
		found++
	}
	switch {
	case found == len(f.want):
		s.states["remote hit"]++
	case found > 0:
		s.states["remote partial"]++
	default:
		s.states["remote miss"]++
	}
	if a := r.asked[f.id]; a != nil {
		a.pages += found
	}
	r.arrive(most)
}

// admitted compares what a request begins with with what it could count on when it
// was added.
func (s *replicas) admitted(r *replica, events []Event) {
	for _, e := range events {
		a := r.asked[e.ID]
		if e.Kind != EventAdmitted || a == nil {
			continue
		}
		delete(r.asked, e.ID)
		switch pages := e.Cached / replicaPageTokens; {
		case pages < a.pages:
			s.states["evicted in mid-flight"]++
		case pages > a.pages:
			s.states["computed by another meanwhile"]++
		case pages == 0:
			s.states["cold"]++
		case !a.fetched:
			s.states["warm"]++
		}
	}
}

// notice takes note of what has come into the remote tier.
func (s *replicas) notice(r *replica) {
	var fresh []cache.Address
	for a := range s.remote {
		if s.writer[a] == nil {
			s.writer[a] = r
			fresh = append(fresh, a)
		}
	}
	slices.SortFunc(fresh, func(a, b cache.Address) int { return bytes.Compare(a[:], b[:]) })
	s.known = append(s.known, fresh...)
}

// forget drops a page from the remote tier.
func (s *replicas) forget() {
	if len(s.known) == 0 {
		return
	}
	i := s.IntN(len(s.known))
	a := s.known[i]
	delete(s.remote, a)
	delete(s.writer, a)
	s.known = slices.Delete(s.known, i, i+1)
}

// do is one thing that happens, after which every invariant holds.
func (s *replicas) do() {
	r := s.worlds[s.IntN(len(s.worlds))]
	switch n := s.IntN(100); {
	case n < 20:
		s.turn(s.chats[s.IntN(len(s.chats))])
	case n < 75:
		r.step()
		s.notice(r)
	case n < 88:
		s.arrive(r, s.IntN(30))
	case n < 92:
		if len(r.all) > 0 {
			q := r.all[len(r.all)-1-s.IntN(min(6, len(r.all)))]
			if s.IntN(2) == 0 {
				r.take(r.s.Cancel(q.ID, r.now))
			} else {
				r.take(r.s.CancelChoice(q.ID, s.IntN(q.Choices), r.now))
			}
		}
	case n < 93:
		r.fails = true
	default:
		s.forget()
	}
	for _, w := range s.worlds {
		w.check()
	}
}

// TestReplicas: whatever the caches hold, here, behind, and written by others, and
// whatever goes from them meanwhile, a request's tokens are the reference's.
func TestReplicas(t *testing.T) {
	seeds, steps := uint64(200), 600
	if testing.Short() {
		seeds = 20
	}
	states := map[string]int{}
	for seed := range seeds {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newReplicas(t, seed)
			for range steps {
				s.do()
			}
			for _, r := range s.worlds {
				r.fails = false
				for len(r.fetches) > 0 {
					s.arrive(r, s.IntN(30))
				}
				r.run()
				for _, q := range r.all {
					if !slices.Contains(r.done[q.ID], FinishError) {
						r.expect(q)
					}
				}
			}
			for state, n := range s.states {
				states[state] += n
			}
		})
		if !ok {
			t.Fatalf("reproduce with: go test ./scheduler -run 'TestReplicas/^%d$'", seed)
		}
	}
	t.Log(states)
	for _, state := range []string{"cold", "warm", "remote hit", "remote partial", "remote miss", "another replica's",
		"computed by another meanwhile", "evicted in mid-flight"} {
		if states[state] < 10 {
			t.Errorf("%s: %d times, which proves little", state, states[state])
		}
	}
}
