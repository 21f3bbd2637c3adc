package scheduler

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"llamero/engine"
	"llamero/engine/enginetest"
)

// TestGolden replays the scripts in testdata against the fake engine and compares
// plans, events and slots; go test ./scheduler -run TestGolden -rewrite writes them
// anew: read the diff. The commands:
//
//	new layout=split slots=4 scratch=0 slot-tokens=256 pool=… pass=128 token-bytes=100
//	    target=50ms queue=10 eog-every=0          a calibrated scheduler and its engine
//	add NAME prompt=40 max=8 n=1 tenant=x priority=0 deadline=100ms scores
//	step [n=1] [quiet]  plans and runs steps; prints plan, times and events
//	run             runs to the end; prints how the answers ended
//	cancel NAME [choice=1]
//	fail [pass=0]   a step whose engine fails in the given pass
//	advance 100ms   lets time pass
//	slots           what slots and the queue hold: NAME computed/tokens
//
// A row prints as slot@position+tokens, with * where it samples, ? where it scores
// and ~ where it is idle.
func TestGolden(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if filepath.Ext(path) != ".txt" {
			return // a fuzzer's corpus
		}
		g := &script{}
		datadriven.RunTest(t, path, g.command)
	})
}

// script is the state of one golden script.
type script struct {
	w     *world
	names map[ID]string
	ids   map[string]ID
	out   strings.Builder
}

func arg[T any](t *testing.T, d *datadriven.TestData, key string, otherwise T) T {
	if d.HasArg(key) {
		d.ScanArgs(t, key, &otherwise)
	}
	return otherwise
}

func duration(t *testing.T, d *datadriven.TestData, key string, otherwise time.Duration) time.Duration {
	v, err := time.ParseDuration(arg(t, d, key, otherwise.String()))
	if err != nil {
		d.Fatalf(t, "%s: %v", key, err)
	}
	return v
}

func (g *script) command(t *testing.T, d *datadriven.TestData) string {
	g.out.Reset()
	if g.w != nil {
		g.w.t = t
	}
	switch d.Cmd {
	case "new":
		g.create(t, d)
	case "add":
		g.add(t, d)
	case "step":
		g.observe(!d.HasArg("quiet"))
		for range arg(t, d, "n", 1) {
			if !g.w.step() {
				fmt.Fprintln(&g.out, "nothing to do")
				break
			}
		}
		g.observe(true)
	case "fail":
		g.fail(t, d)
	case "run":
		g.run()
	case "cancel":
		id := g.id(t, d)
		if d.HasArg("choice") {
			g.w.take(g.w.s.CancelChoice(id, arg(t, d, "choice", 0), g.w.now))
		} else {
			g.w.take(g.w.s.Cancel(id, g.w.now))
		}
		g.w.check()
	case "advance":
		by, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		g.w.now += Tick(by)
		fmt.Fprintln(&g.out, "now", ms(g.w.now))
	case "slots":
		g.slots()
	default:
		d.Fatalf(t, "unknown command %q", d.Cmd)
	}
	return g.out.String()
}

func (g *script) create(t *testing.T, d *datadriven.TestData) {
	layout := engine.Split
	if arg(t, d, "layout", "split") == "unified" {
		layout = engine.Unified
	}
	l := enginetest.DefaultLimits(layout)
	l.Slots = arg(t, d, "slots", 4)
	l.Scratch = arg(t, d, "scratch", l.Scratch)
	l.SlotTokens = arg(t, d, "slot-tokens", 256)
	l.PoolTokens = arg(t, d, "pool", l.Slots*l.SlotTokens)
	l.PassTokens = arg(t, d, "pass", 128)
	l.TokenBytes = arg(t, d, "token-bytes", 100)
	g.names, g.ids = map[ID]string{}, map[string]ID{}
	g.w = newWorld(t, Config{
		Limits: l, TargetITL: int64(duration(t, d, "target", 50*time.Millisecond)), Queue: arg(t, d, "queue", 10),
	})
	g.w.f.EOG, g.w.f.EOGEvery = 7, arg(t, d, "eog-every", 0)
	g.observe(true)
}

// observe says whether plans are printed, or only what matters at the end.
func (g *script) observe(on bool) {
	g.w.onPlan, g.w.onOutput, g.w.onEvents = nil, nil, g.done
	if on {
		g.w.onPlan, g.w.onOutput, g.w.onEvents = g.plan, g.output, g.events
	}
}

func (g *script) id(t *testing.T, d *datadriven.TestData) ID {
	id, ok := g.ids[d.CmdArgs[0].Key]
	if !ok {
		d.Fatalf(t, "no request %q", d.CmdArgs[0].Key)
	}
	return id
}

func (g *script) add(t *testing.T, d *datadriven.TestData) {
	name := d.CmdArgs[0].Key
	r := Request{
		ID:           ID(len(g.names) + 1),
		Tenant:       arg(t, d, "tenant", ""),
		Priority:     arg(t, d, "priority", 0),
		Prompt:       prompt(uint64(len(g.names)+1), arg(t, d, "prompt", 40)),
		Choices:      arg(t, d, "n", 1),
		MaxTokens:    arg(t, d, "max", 0),
		PromptScores: d.HasArg("scores"),
		Stop:         []engine.Token{7},
	}
	if d.HasArg("deadline") {
		r.Deadline = g.w.now + Tick(duration(t, d, "deadline", 0))
	}
	if err := g.w.submit(r); err != nil {
		fmt.Fprintln(&g.out, "error:", err)
		return
	}
	g.names[r.ID], g.ids[name] = name, r.ID
	g.w.check()
}

func (g *script) fail(t *testing.T, d *datadriven.TestData) {
	at := arg(t, d, "pass", 0)
	g.w.f.Fail = func(_ uint64, pass int) error {
		if pass == at {
			return errors.New("the engine has failed")
		}
		return nil
	}
	g.w.step()
	g.w.f.Fail = nil
}

func (g *script) run() {
	g.observe(false)
	defer g.observe(true)
	steps, start := g.w.steps, g.w.now
	g.w.run()
	fmt.Fprintf(&g.out, "%d steps in %s", g.w.steps-steps, ms(g.w.now-start))
	if n := g.w.s.Stats().Preemptions; n > 0 {
		fmt.Fprintf(&g.out, ", %d preemptions so far", n)
	}
	fmt.Fprintln(&g.out)
}

func ms(t Tick) string { return fmt.Sprintf("%.1fms", float64(t)/1e6) }

func (g *script) plan(p engine.Plan) {
	fmt.Fprintf(&g.out, "step %d\n", p.Step)
	for _, e := range p.Edits {
		switch e.Kind {
		case engine.EditOpen:
			fmt.Fprintf(&g.out, "  open %d prompt=%d choice=%d\n", e.Slot, e.Len, e.Sampling.Choice)
		case engine.EditTrim:
			fmt.Fprintf(&g.out, "  trim %d to %d\n", e.Slot, e.Len)
		case engine.EditMove:
			fmt.Fprintf(&g.out, "  move %d to %d\n", e.Slot, e.To)
		case engine.EditFork:
			fmt.Fprintf(&g.out, "  fork %d to %d len=%d\n", e.Slot, e.To, e.Len)
		case engine.EditDrop:
			fmt.Fprintf(&g.out, "  drop %d\n", e.Slot)
		default:
			fmt.Fprintf(&g.out, "  %+v\n", e)
		}
	}
}

func (g *script) output(p *engine.Plan, out *engine.Output) {
	kind := map[engine.PassKind]string{engine.PassDecode: "decode", engine.PassPrefill: "prefill"}
	pass := p.Passes[out.Pass]
	fmt.Fprintf(&g.out, "  %s", kind[pass.Kind])
	for _, r := range pass.Rows {
		fmt.Fprintf(&g.out, " %d@%d+%d", r.Slot, r.Pos, len(r.Tokens))
		for _, mark := range []struct {
			set  bool
			sign string
		}{{r.Sample, "*"}, {r.Score, "?"}, {r.Idle, "~"}} {
			if mark.set {
				g.out.WriteString(mark.sign)
			}
		}
	}
	fmt.Fprintf(&g.out, "  [%s]\n", ms(Tick(out.Nanos)))
}

func (g *script) answer(e Event) string {
	if len(g.w.done[e.ID]) == 1 {
		return g.names[e.ID]
	}
	return fmt.Sprintf("%s#%d", g.names[e.ID], e.Choice)
}

func (g *script) events(events []Event) {
	for _, e := range events {
		switch e.Kind {
		case EventAdmitted:
			fmt.Fprintf(&g.out, "    %s admitted", g.answer(e))
			if e.Cached > 0 {
				fmt.Fprintf(&g.out, ", %d tokens there", e.Cached)
			}
		case EventTokens:
			fmt.Fprintf(&g.out, "    %s", g.answer(e))
			if len(e.Scores) > 0 {
				fmt.Fprintf(&g.out, " ?%d", len(e.Scores))
			}
			if len(e.Tokens) > 0 {
				fmt.Fprintf(&g.out, " +%d", len(e.Tokens))
			}
		case EventDone:
			g.done([]Event{e})
			continue
		}
		fmt.Fprintln(&g.out)
	}
}

func (g *script) done(events []Event) {
	for _, e := range events {
		if e.Kind == EventDone {
			fmt.Fprintf(&g.out, "    %s done: %s", g.answer(e), e.Finish)
			if e.Err != nil {
				fmt.Fprintf(&g.out, " (%v)", e.Err)
			}
			fmt.Fprintf(&g.out, ", %d tokens\n", len(g.w.got[e.ID][e.Choice]))
		}
	}
}

func (g *script) slots() {
	who := func(q *sequence) string {
		return fmt.Sprintf("%s %d/%d", g.answer(Event{ID: q.req.ID, Choice: q.choice}), q.computed, len(q.tokens))
	}
	for i, q := range g.w.s.slots {
		switch {
		case q != nil:
			fmt.Fprintf(&g.out, "%d: %s\n", i, who(q))
		case g.w.s.dirty[i]:
			fmt.Fprintf(&g.out, "%d: to be dropped\n", i)
		default:
			fmt.Fprintf(&g.out, "%d: free\n", i)
		}
	}
	var waiting []string
	for _, q := range g.w.s.waiting {
		waiting = append(waiting, who(q))
	}
	if len(waiting) > 0 {
		fmt.Fprintln(&g.out, "waiting:", strings.Join(waiting, ", "))
	}
}
