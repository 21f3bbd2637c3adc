package loop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"llamero/cache"
	"llamero/engine"
	"llamero/scheduler"
)

// Group is a served model's engines, each with a loop of its own. They share host
// pages: what one of them has computed the others restore. And they share a queue: its
// places are counted over all of them, while a request waits at the engine that it was
// sent to. An engine that is lost keeps its requests, which go on when it is back, and
// gets no new ones while another runs. A Group's methods are safe for concurrent use.
type Group struct {
	common
	loops  []*Loop
	limits engine.Limits
	pages  Pages

	mu     sync.Mutex
	router *scheduler.Router
}

// NewGroup calibrates the engines, at once since that is how they will run, and starts
// their loops. From the call on the engines are the group's, which closes them even if
// it fails. Options are for all together: an Observer's funcs are called on the
// goroutine of each loop.
func NewGroup(engines []engine.Engine, opt Options) (*Group, error) {
	g := &Group{loops: make([]*Loop, len(engines))}
	err := g.prepare(engines, &opt)
	if err == nil {
		err = g.start(engines, opt)
	}
	if err != nil {
		for i, l := range g.loops {
			if l != nil {
				_ = l.Close()
			} else {
				_ = engines[i].Close()
			}
		}
		return nil, err
	}
	return g, nil
}

// prepare completes the options and makes what the loops share.
func (g *Group) prepare(engines []engine.Engine, opt *Options) error {
	if len(engines) == 0 {
		return errors.New("loop: a group without engines")
	}
	g.limits = engines[0].Limits()
	for i, e := range engines {
		if l := e.Limits(); l != g.limits {
			return fmt.Errorf("loop: engine %d is not like the first: %+v, not %+v", i, l, g.limits)
		}
	}
	if err := opt.complete(g.limits); err != nil {
		return err
	}
	g.common = newCommon(opt, len(engines)*g.limits.Slots)
	g.pages = opt.Pages
	g.router = scheduler.NewRouter(len(engines), g.limits.Slots)
	return nil
}

// start starts the loops; some may run when another has failed to.
func (g *Group) start(engines []engine.Engine, opt Options) error {
	errs := make([]error, len(engines))
	var wg sync.WaitGroup
	for i, e := range engines {
		own := opt
		if len(engines) > 1 {
			own.Log = opt.Log.With("engine", i)
		}
		wg.Go(func() { g.loops[i], errs[i] = newLoop(e, own, g.common) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Submit is Loop's, on the engine that suits the request.
func (g *Group) Submit(r scheduler.Request, wait time.Duration) (*Stream, error) {
	if len(g.loops) == 1 {
		return g.loops[0].Submit(r, wait)
	}
	route := g.route(&r)
	g.mu.Lock()
	to := g.router.Pick(route, func(i int) bool { return g.loops[i].up() })
	g.mu.Unlock()
	s, err := g.loops[to].take(r, wait, func(last bool) { g.ended(to, 1, last, route) })
	if err != nil {
		g.ended(to, route.Answers, true, route)
		return nil, err
	}
	return s, nil
}

// route is what the router is told of a request.
func (g *Group) route(r *scheduler.Request) *scheduler.Route {
	q := &scheduler.Route{Answers: max(1, r.Choices), Prompt: len(r.Prompt)}
	if g.pages.Host == nil || r.PromptScores {
		return q // it begins with nothing
	}
	q.Page = g.limits.PageTokens
	q.Chain = cache.Chain(g.pages.Root(r.Tenant), nil, r.Prompt, q.Page)
	q.Known = g.account.known(q.Chain, r.Prompt)
	return q
}

// ended tells the router of answers that have ended.
func (g *Group) ended(at, answers int, last bool, q *scheduler.Route) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.router.Ended(at, answers)
	if last {
		g.router.Left(at, q)
	}
}

// Limits are those of each engine.
func (g *Group) Limits() engine.Limits { return g.limits }

// Engines returns the latest snapshot of each.
func (g *Group) Engines() []Stats {
	out := make([]Stats, len(g.loops))
	for i, l := range g.loops {
		out[i] = l.Stats()
	}
	return out
}

// Stats returns the latest snapshot of all together.
func (g *Group) Stats() Stats {
	var sum Stats
	for i := range g.loops {
		st := g.loops[i].Stats()
		sum.add(&st)
	}
	sum.Pages = g.account.stats()
	return sum
}

// Drain is Loop's, of all loops.
func (g *Group) Drain(ctx context.Context) error {
	return g.each(func(l *Loop) error { return l.Drain(ctx) })
}

// Close is Loop's, of all loops.
func (g *Group) Close() error { return g.each((*Loop).Close) }

func (g *Group) each(do func(*Loop) error) error {
	errs := make([]error, len(g.loops))
	var wg sync.WaitGroup
	for i, l := range g.loops {
		wg.Go(func() { errs[i] = do(l) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
