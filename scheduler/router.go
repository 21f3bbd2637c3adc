package scheduler

import (
	"sort"

	"llamero/cache"
)

// Router decides which of a model's engines a request goes to. It is pure and
// single-threaded, like Scheduler.
//
// Host pages are shared: what they hold of a prompt every engine can begin with, so it
// speaks for none. What a running or waiting request will have in its slot is worth
// something to those that come after it only on the same engine: they fork from it, or
// wait for it rather than compute it beside it. So a request goes to where least is left
// to compute of its prompt, as long as that engine is not too busy: an answer more there
// than elsewhere counts as some tokens more to compute, and an engine whose slots are
// taken comes after every one that has room.
type Router struct {
	slots int                // of each engine
	load  []int              // answers of each engine that have not ended
	held  map[routedPage]int // pages of prompts, by how many requests that have not ended begin with them
}

type routedPage struct {
	address cache.Address
	engine  int
}

// answerPrice is what an answer more in an engine's passes costs those beside it, in
// prompt tokens. On two cores, over an answer of 64 tokens, it is about 80 (a row
// costs 1 ms a pass, a prompt's token 0.8 ms); on a GPU, where rows are nearly free, next
// to nothing. At 16, up to 32 requests that have 500 tokens in common stay together.
const answerPrice = 16

// Route is what a Router is told of a request.
type Route struct {
	Answers int             // that it asks for
	Prompt  int             // tokens
	Chain   []cache.Address // the prompt's whole pages; none for one that begins with no page
	Page    int             // tokens of a page
	Known   int             // pages that all engines can begin with
}

// NewRouter returns a router for so many engines of so many slots each.
func NewRouter(engines, slots int) *Router {
	return &Router{slots: slots, load: make([]int, engines), held: make(map[routedPage]int)}
}

// Pick chooses an engine and counts the request as its own until Ended and Left. An
// engine that is not up gets nothing while another is.
func (r *Router) Pick(q *Route, up func(engine int) bool) int {
	best := preference{}
	for i := range r.load {
		p := preference{engine: i, up: up(i), room: r.load[i]+q.Answers <= r.slots, load: r.load[i]}
		begins := max(q.Known, r.begins(i, q.Chain))
		p.cost = q.Prompt - begins*q.Page + answerPrice*p.load
		if i == 0 || p.before(&best) {
			best = p
		}
	}
	r.load[best.engine] += q.Answers
	for _, a := range q.Chain {
		r.held[routedPage{a, best.engine}]++
	}
	return best.engine
}

// preference is what speaks for an engine.
type preference struct {
	engine     int
	up, room   bool
	cost, load int
}

func (p *preference) before(o *preference) bool {
	switch {
	case p.up != o.up:
		return p.up
	case p.room != o.room:
		return p.room
	case p.cost != o.cost:
		return p.cost < o.cost
	}
	return p.load < o.load
}

// begins counts the pages of a chain, from its beginning, with which requests of an
// engine begin too. An address stands for all before it.
func (r *Router) begins(engine int, chain []cache.Address) int {
	return sort.Search(len(chain), func(i int) bool { return r.held[routedPage{chain[i], engine}] == 0 })
}

// Ended says that so many of an engine's answers have ended.
func (r *Router) Ended(engine, answers int) { r.load[engine] -= answers }

// Left says that the last answer of a request has ended.
func (r *Router) Left(engine int, q *Route) {
	for _, a := range q.Chain {
		p := routedPage{a, engine}
		if r.held[p]--; r.held[p] == 0 {
			delete(r.held, p)
		}
	}
}
