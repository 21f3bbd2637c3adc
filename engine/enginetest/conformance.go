package enginetest

import (
	"context"
	"math"
	"reflect"
	"testing"

	"llamero/engine"
)

// Options of a conformance run.
type Options struct {
	// Epsilon is how far log-probabilities may lie apart, in nats, where the same
	// tokens were computed in passes of another shape. 0 asks for equality, which is
	// also asked for where shapes are the same and slots have cells of their own.
	Epsilon float64
	// Prompts are two different texts of at least PromptTokens tokens; nil takes two
	// made up of the vocabulary.
	Prompts [2][]engine.Token
	// DraftsItself: the draft model is the model, so that nearly all it drafts is right.
	DraftsItself bool
}

const (
	// PromptTokens is how long the texts of a conformance run are.
	PromptTokens = head + tail
	head         = 48 // read as a prompt
	tail         = 6  // then given one by one, as if drawn
	maxWidth     = 17
)

// Conformance runs every case that an engine must pass. open returns an engine of
// at least 4 slots of 2·PromptTokens tokens, which Conformance closes. Answers are
// compared by log-probabilities, and every comparison with what must be equal has
// one with what must not.
func Conformance(t *testing.T, open func(t *testing.T) engine.Engine, opt Options) {
	e := open(t)
	l := e.Limits()
	if l.Slots < 4 || l.SlotTokens < 2*PromptTokens || l.PoolTokens < 4*PromptTokens || l.PassTokens < PromptTokens {
		e.Close()
		t.Fatalf("limits are too small for this suite: %+v", l)
	}
	s := &suite{T: t, eng: e, l: l, opt: opt, nearest: math.Inf(1)}
	for i := range s.opt.Prompts {
		if s.opt.Prompts[i] == nil {
			for j := range PromptTokens {
				s.opt.Prompts[i] = append(s.opt.Prompts[i], engine.Token((j*j*31+j*7+i*97+5)%l.Vocab))
			}
		}
		if len(s.opt.Prompts[i]) < PromptTokens {
			e.Close()
			t.Fatalf("prompt %d has %d tokens; %d are needed", i, len(s.opt.Prompts[i]), PromptTokens)
		}
		s.opt.Prompts[i] = s.opt.Prompts[i][:PromptTokens]
	}
	s.baselines()
	for _, c := range []struct {
		name string
		run  func(*suite)
	}{
		{"output", (*suite).output},
		{"widths", (*suite).widths},
		{"chunks", (*suite).chunks},
		{"shared prefill", (*suite).sharedPrefill},
		{"scores", (*suite).scores},
		{"idle rows", (*suite).idleRows},
		{"move", (*suite).move},
		{"move and reuse", (*suite).moveAndReuse},
		{"fork", (*suite).fork},
		{"partial fork", (*suite).partialFork},
		{"trim", (*suite).trim},
		{"drop and reopen", (*suite).dropAndReopen},
		{"keyed draws", (*suite).keyedDraws},
		{"mixed settings", (*suite).mixedSettings},
		{"guesses", (*suite).guesses},
		{"guesses and draws", (*suite).guessesAndDraws},
		{"drafts", (*suite).drafts},
		{"drafts follow", (*suite).draftsFollow},
		{"drafts and pages", (*suite).draftsAndPages},
		{"refusals", (*suite).refusals},
		{"failed pass", (*suite).failedPass},
		{"cancelled context", (*suite).cancelledContext},
		{"full slot", (*suite).fullSlot},
		{"full pool", (*suite).fullPool},
		{"pages", (*suite).pages},
		{"pages and moves", (*suite).pagesAndMoves},
		{"part of the pages", (*suite).partOfThePages},
		{"wrong pages", (*suite).wrongPages},
		{"edits alone", (*suite).editsAlone},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.T = t
			s.clear()
			c.run(s)
		})
	}
	s.T = t
	t.Logf("answers to one text lie at most %.3g apart, answers to different texts at least %.3g", s.farthest, s.nearest)
	if err := e.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := e.Step(context.Background(), engine.Plan{Passes: []engine.Pass{{Rows: []engine.Row{{Tokens: []engine.Token{1}, Idle: true}}}}}, func(engine.Output) {}); err == nil {
		t.Error("a closed engine runs")
	}
}

// suite is one run; its T is that of the case.
type suite struct {
	*testing.T
	eng  engine.Engine
	l    engine.Limits
	opt  Options
	step uint64
	base [2][tail + 1]engine.Sampled // what each prompt yields after head, head+1, … tokens

	farthest float64 // of what had to be alike, where shapes differ
	nearest  float64 // of what had to be different

	proposed, right int // drafted tokens
}

// greedy asks for everything that can be compared.
var greedy = engine.Sampling{LogProbs: engine.MaxLogProbs}

func (s *suite) head(prompt int) []engine.Token { return s.opt.Prompts[prompt][:head] }

func (s *suite) tail(prompt, i int) []engine.Token { return s.opt.Prompts[prompt][head+i : head+i+1] }

// run runs a plan and returns its outputs and the error.
func (s *suite) run(p engine.Plan) ([]engine.Output, error) {
	s.step++
	p.Step = s.step
	var outs []engine.Output
	err := s.eng.Step(context.Background(), p, func(o engine.Output) { outs = append(outs, o) })
	return outs, err
}

func (s *suite) edit(edits ...engine.Edit) {
	s.Helper()
	if _, err := s.run(engine.Plan{Edits: edits}); err != nil {
		s.Fatal(err)
	}
}

// pass runs one pass and returns what each row yielded.
func (s *suite) pass(rows ...engine.Row) []engine.RowOutput {
	s.Helper()
	outs, err := s.run(engine.Plan{Passes: []engine.Pass{{Kind: engine.PassDecode, Rows: rows}}})
	if err != nil {
		s.Fatal(err)
	}
	if len(outs) != 1 || len(outs[0].Rows) != len(rows) {
		s.Fatalf("%d outputs of one pass of %d rows: %+v", len(outs), len(rows), outs)
	}
	return outs[0].Rows
}

// clear drops every slot.
func (s *suite) clear() {
	s.Helper()
	for i := range s.l.Slots {
		s.edit(engine.Edit{Kind: engine.EditDrop, Slot: int32(i)})
	}
}

func (s *suite) open(slot int, p engine.Sampling) {
	s.Helper()
	s.edit(engine.Edit{Kind: engine.EditOpen, Slot: int32(slot), Len: head, Sampling: p})
}

// feed computes tokens in a pass of their own and returns what is drawn after them.
func (s *suite) feed(slot, pos int, tokens []engine.Token) engine.Sampled {
	s.Helper()
	return s.drawn(s.pass(sampling(slot, pos, tokens))[0])
}

func (s *suite) drawn(r engine.RowOutput) engine.Sampled {
	s.Helper()
	if len(r.Sampled) != 1 {
		s.Fatalf("a sampling row drew %d tokens", len(r.Sampled))
	}
	return r.Sampled[0]
}

func sampling(slot, pos int, tokens []engine.Token) engine.Row {
	return engine.Row{Slot: int32(slot), Pos: int32(pos), Tokens: tokens, Sample: true}
}

func idle(slot, pos, n int) engine.Row {
	return engine.Row{Slot: int32(slot), Pos: int32(pos), Tokens: make([]engine.Token, n), Idle: true}
}

// prompt opens a slot and reads a prompt into it.
func (s *suite) prompt(slot, prompt int) engine.Sampled {
	s.Helper()
	s.open(slot, greedy)
	return s.feed(slot, 0, s.head(prompt))
}

// goOn gives a slot its prompt's next tokens one by one, from the i-th on, and
// compares what is drawn.
func (s *suite) goOn(what string, slot, prompt, i int, sameShape bool) {
	s.Helper()
	for ; i < tail; i++ {
		got := s.feed(slot, head+i, s.tail(prompt, i))
		s.same(what, got, s.base[prompt][i+1], sameShape)
		s.differ(what, got, s.base[1-prompt][i+1])
	}
}

// baselines computes each prompt alone in an empty engine.
func (s *suite) baselines() {
	s.Helper()
	for p := range s.base {
		s.clear()
		s.base[p][0] = s.prompt(0, p)
		for i := range tail {
			s.base[p][i+1] = s.feed(0, head+i, s.tail(p, i))
		}
	}
	for i := range tail + 1 {
		s.differ("the two prompts", s.base[0][i], s.base[1][i])
	}
}

// exact reports whether equality is asked for.
func (s *suite) exact(sameShape bool) bool {
	return s.opt.Epsilon == 0 || sameShape && s.l.Layout == engine.Split
}

// same compares two answers that come from the same tokens.
func (s *suite) same(what string, got, want engine.Sampled, sameShape bool) {
	s.Helper()
	if s.exact(sameShape) {
		if !reflect.DeepEqual(got, want) {
			s.Errorf("%s: got token %d at %v, want token %d at %v; they are %v apart", what, got.Token, got.LogProb, want.Token, want.LogProb, distance(got, want))
		}
		return
	}
	d := distance(got, want)
	s.farthest = max(s.farthest, d)
	if d > s.opt.Epsilon {
		s.Errorf("%s: answers are %v apart; at most %v", what, d, s.opt.Epsilon)
	}
}

// differ is the negative control: answers that come from other tokens.
func (s *suite) differ(what string, got, other engine.Sampled) {
	s.Helper()
	d := distance(got, other)
	s.nearest = min(s.nearest, d)
	if d <= 2*s.opt.Epsilon {
		s.Errorf("%s: answers to different texts are only %v apart", what, d)
	}
}

// likely is the log-probability from which a token counts: rounding moves unlikely
// ones far more, and they are hardly ever drawn.
const likely = -4

// distance is the largest difference of log-probabilities over the tokens that
// either answer calls likely; a token that one does not name is at most as
// probable as its last.
func distance(a, b engine.Sampled) float64 {
	if len(a.Top) == 0 || len(b.Top) == 0 { // the fake: nothing but the token's own
		if a.Token != b.Token {
			return math.Inf(1)
		}
		return math.Abs(float64(a.LogProb - b.LogProb))
	}
	var worst float64
	for _, pair := range [2][2]engine.Sampled{{a, b}, {b, a}} {
		known := make(map[engine.Token]float32)
		for _, x := range pair[1].Top {
			known[x.Token] = x.LogProb
		}
		least := pair[1].Top[len(pair[1].Top)-1].LogProb
		for _, x := range pair[0].Top {
			if x.LogProb < likely {
				break
			}
			if y, ok := known[x.Token]; ok {
				worst = max(worst, math.Abs(float64(x.LogProb-y)))
			} else {
				worst = max(worst, float64(x.LogProb-least))
			}
		}
	}
	return worst
}
