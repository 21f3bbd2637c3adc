package raw

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"llamero/engine"
	"llamero/engine/enginetest"
)

// recorder keeps the passes that an engine was given.
type recorder struct {
	engine.Engine
	passes []engine.Pass
	edits  map[engine.EditKind]int
}

func (r *recorder) Step(ctx context.Context, p engine.Plan, emit func(engine.Output)) error {
	r.passes = append(r.passes, p.Passes...)
	for _, e := range p.Edits {
		r.edits[e.Kind]++
	}
	return r.Engine.Step(ctx, p, emit)
}

// prompt is n tokens, of which the first shared are everybody's.
func prompt(i, shared, n int) []engine.Token {
	tokens := make([]engine.Token, n)
	for k := range tokens {
		if tokens[k] = engine.Token(k % 900); k >= shared {
			tokens[k] = engine.Token((k*31 + i*7 + 1) % 1000)
		}
	}
	return tokens
}

func many(n int, of func(i int) Prompt) []Prompt {
	prompts := make([]Prompt, n)
	for i := range prompts {
		prompts[i] = of(i)
	}
	return prompts
}

// Whatever the plan, the answers are those of the plain definition, and as few
// tokens are computed as can be.
func TestDriveAnswersRight(t *testing.T) {
	tests := []struct {
		name     string
		prompts  []Prompt
		computed int // prompt tokens, 0 for all
		forks    int
	}{
		{"one", many(1, func(int) Prompt { return Prompt{prompt(0, 0, 40), 7} }), 0, 0},
		{"one token in, one out", many(1, func(int) Prompt { return Prompt{prompt(0, 0, 1), 1} }), 0, 0},
		{"a prompt of several chunks", many(2, func(i int) Prompt { return Prompt{prompt(i, 0, 200), 3} }), 0, 0},
		{"all slots", many(8, func(i int) Prompt { return Prompt{prompt(i, 0, 30), 9} }), 0, 0},
		{"more than slots", many(19, func(i int) Prompt { return Prompt{prompt(i, 0, 30), 9} }), 0, 0},
		{"mixed lengths, early ends", many(8, func(i int) Prompt { return Prompt{prompt(i, 0, 20+i*13), 1 + i*5%17} }), 0, 0},
		{"one ends at once", many(3, func(i int) Prompt { return Prompt{prompt(i, 0, 20), 1 + 4*i} }), 0, 0},
		{"five and six of four wide", many(6, func(i int) Prompt { return Prompt{prompt(i, 0, 20), 10 + 5*(i%2)} }), 0, 0},
		{"shared", many(8, func(i int) Prompt { return Prompt{prompt(i, 100, 110+i), 6} }), 100 + 8*10 + 28, 7},
		{"shared by more than slots", many(17, func(i int) Prompt { return Prompt{prompt(i, 100, 120), 6} }), 100 + 17*20, 7 + 7},
		{"the same prompt", many(4, func(int) Prompt { return Prompt{prompt(0, 100, 100), 4} }), 99 + 4, 3},
		{"a short beginning is not worth it", many(4, func(i int) Prompt { return Prompt{prompt(i, 20, 50), 4} }), 0, 0},
	}
	for _, layout := range []engine.Layout{engine.Split, engine.Unified} {
		for _, test := range tests {
			t.Run(fmt.Sprint(layout, "/", test.name), func(t *testing.T) {
				fake := enginetest.NewFake(enginetest.DefaultLimits(layout))
				r := &recorder{Engine: fake, edits: map[engine.EditKind]int{}}
				answers, err := Drive(t.Context(), r, test.prompts)
				if err != nil {
					t.Fatal(err)
				}
				all, shared := 0, 0
				for i, p := range test.prompts {
					want := fake.Reference(p.Tokens, engine.Sampling{}, p.Generate)
					if !slices.Equal(answers[i].Tokens, want) {
						t.Errorf("prompt %d: got %v, want %v", i, answers[i].Tokens, want)
					}
					if len(answers[i].Stamps) != p.Generate || !slices.IsSorted(answers[i].Stamps) {
						t.Errorf("prompt %d: stamps %v", i, answers[i].Stamps)
					}
					all += len(p.Tokens)
					shared += answers[i].Shared
				}
				computed := 0
				for _, p := range r.passes {
					if p.Kind == engine.PassPrefill {
						for _, row := range p.Rows {
							computed += len(row.Tokens)
						}
					}
				}
				want := test.computed
				if want == 0 {
					want = all
				}
				if computed != want || shared != all-want {
					t.Errorf("%d prompt tokens of %d were computed, %d shared; want %d computed", computed, all, shared, want)
				}
				if r.edits[engine.EditFork] != test.forks || r.edits[engine.EditMove] > 0 {
					t.Errorf("edits %v, want %d forks and no move", r.edits, test.forks)
				}
				// Nothing is left behind: the same again on the same engine.
				again, err := Drive(t.Context(), fake, test.prompts)
				if err != nil {
					t.Fatal(err)
				}
				for i := range again {
					if !slices.Equal(again[i].Tokens, answers[i].Tokens) {
						t.Errorf("again, prompt %d: got %v, want %v", i, again[i].Tokens, answers[i].Tokens)
					}
				}
			})
		}
	}
}

// The widest passes that there can be, and no more of them than are needed.
func TestPassesAreFew(t *testing.T) {
	tests := []struct {
		name    string
		layout  engine.Layout
		prompts []Prompt
		prefill []int // tokens of each pass
		decode  []int // rows of the passes, idle ones included
	}{
		{"long prompts, split", engine.Split, many(2, func(i int) Prompt { return Prompt{prompt(i, 0, 200), 3} }), []int{128, 72, 128, 72}, []int{2, 2}},
		{"long prompts, unified", engine.Unified, many(2, func(i int) Prompt { return Prompt{prompt(i, 0, 200), 3} }), []int{128, 128, 128, 16}, []int{2, 2}},
		{"short prompts, split", engine.Split, many(8, func(i int) Prompt { return Prompt{prompt(i, 0, 12+i%2), 2} }), []int{96, 4}, []int{8}},
		{"short prompts, unified", engine.Unified, many(8, func(i int) Prompt { return Prompt{prompt(i, 0, 12+i%2), 2} }), []int{100}, []int{8}},
		{"ends leave no holes", engine.Split, many(8, func(i int) Prompt { return Prompt{prompt(i, 0, 16), []int{2, 4, 2, 3, 2, 5, 2, 2}[i]} }), []int{128}, []int{8, 3, 2, 1}},
		{"five are rounded up, four are not", engine.Split, many(5, func(i int) Prompt { return Prompt{prompt(i, 0, 16), 3 - i/4} }), []int{80}, []int{8, 4}},
		{"rounded up in one row", engine.Unified, many(6, func(i int) Prompt { return Prompt{prompt(i, 0, 16), 2} }), []int{96}, []int{7}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := &recorder{Engine: enginetest.NewFake(enginetest.DefaultLimits(test.layout)), edits: map[engine.EditKind]int{}}
			if _, err := Drive(t.Context(), r, test.prompts); err != nil {
				t.Fatal(err)
			}
			var prefill, decode []int
			for _, p := range r.passes {
				tokens := 0
				for _, row := range p.Rows {
					tokens += len(row.Tokens)
				}
				if p.Kind == engine.PassPrefill {
					prefill = append(prefill, tokens)
				} else {
					decode = append(decode, len(p.Rows))
				}
			}
			if !slices.Equal(prefill, test.prefill) || !slices.Equal(decode, test.decode) {
				t.Errorf("prompt passes of %v tokens, decode passes of %v rows; want %v, %v", prefill, decode, test.prefill, test.decode)
			}
		})
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	l := enginetest.DefaultLimits(engine.Split)
	for name, p := range map[string]Prompt{
		"no prompt":      {nil, 3},
		"no answer":      {prompt(0, 0, 3), 0},
		"longer than it": {prompt(0, 0, 250), 8},
	} {
		if _, err := Drive(t.Context(), enginetest.NewFake(l), []Prompt{p}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// To the last cell.
	if _, err := Drive(t.Context(), enginetest.NewFake(l), []Prompt{{prompt(0, 0, 250), 7}}); err != nil {
		t.Error(err)
	}
	// A pool that holds fewer than slots: one after the other.
	u := enginetest.DefaultLimits(engine.Unified)
	u.PoolTokens = 300
	if _, err := Drive(t.Context(), enginetest.NewFake(u), many(6, func(i int) Prompt { return Prompt{prompt(i, 0, 90), 9} })); err != nil {
		t.Error(err)
	}
}

func TestDriveEndsWithItsContextAndItsEngine(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	prompts := []Prompt{{prompt(0, 0, 30), 5}}
	if _, err := Drive(ctx, enginetest.NewFake(enginetest.DefaultLimits(engine.Split)), prompts); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	lost := errors.New("lost")
	fake := enginetest.NewFake(enginetest.DefaultLimits(engine.Split))
	fake.Fail = func(step uint64, pass int) error {
		if step == 4 {
			return lost
		}
		return nil
	}
	if _, err := Drive(t.Context(), fake, prompts); !errors.Is(err, lost) {
		t.Errorf("got %v", err)
	}
}

func TestFill(t *testing.T) {
	for _, layout := range []engine.Layout{engine.Split, engine.Unified} {
		l := enginetest.DefaultLimits(layout)
		l.PoolTokens = 8 * 256
		fake := enginetest.NewFake(l)
		// A row takes a millisecond.
		fake.Cost = func(p *engine.Pass, depth int) int64 { return int64(len(p.Rows)) * int64(time.Millisecond) }
		f := Fill{Streams: 2, Shares: []float64{0.1, 0.5, 1}, Steps: 5}
		points, err := f.Measure(t.Context(), fake)
		if err != nil {
			t.Fatalf("%s: %v", layout, err)
		}
		pool := 6 * 256
		for i, p := range points {
			if want := int(f.Shares[i] * float64(pool)); p.Held != want || p.Share != f.Shares[i] {
				t.Errorf("%s: at %g %d tokens were held, want %d", layout, p.Share, p.Held, want)
			}
			if p.Step.Median != 2 || p.Step.Max != 2 {
				t.Errorf("%s: a step of two rows took %+v ms", layout, p.Step)
			}
		}
		for name, bad := range map[string]Fill{
			"no others":       {Streams: 8, Shares: []float64{1}, Steps: 1},
			"no steps":        {Streams: 2, Shares: []float64{1}},
			"too many steps":  {Streams: 2, Shares: []float64{1}, Steps: 200},
			"no room for any": {Streams: 7, Shares: []float64{1}, Steps: 192},
		} {
			small := l
			if name == "no room for any" {
				small.PoolTokens = 7 * 256
			}
			if _, err := bad.Measure(t.Context(), enginetest.NewFake(small)); err == nil {
				t.Errorf("%s, %s: no error", layout, name)
			}
		}
	}
}
