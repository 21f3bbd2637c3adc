package llama

import (
	"math"
	"strings"
	"testing"

	"llamero/engine"
	"llamero/tokenizer"
)

// The logits of a whole text are those of the plain loop, as near as another width
// of the pass lets them be, and a text does not depend on the one before it.
func TestEvaluator(t *testing.T) {
	lib, model := files(t)
	tok := openTokenizer(t)
	tokens, err := tok.Encode("The llama is a domesticated South American camelid, used as a meat and pack animal by Andean cultures.", tokenizer.EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := OpenEvaluator(EvaluatorOptions{Lib: lib, Model: model, Threads: 2, Tokens: 64})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	if e.Vocab() != tok.Vocab().Len() {
		t.Errorf("vocabulary of %d, not %d", e.Vocab(), tok.Vocab().Len())
	}
	if _, err := e.Logits([]engine.Token{5, 6, 7}, 0); err != nil {
		t.Fatal(err)
	}
	const first = 4
	rows, err := e.Logits(tokens, first)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(tokens)-first {
		t.Fatalf("%d rows for %d tokens", len(rows), len(tokens)-first)
	}
	p := openPlain(t, lib, model, 256, 64)
	p.feed(tokens[:first]...)
	for i, row := range rows {
		p.feed(tokens[first+i])
		if d := distance(row, p.logits); d > 0.5 {
			t.Errorf("token %d: a logit differs by %.3f", first+i, d)
		}
		// The check can fail: another position's row is far away.
		if i > 0 && distance(rows[i-1], p.logits) < 1 {
			t.Errorf("token %d: the row before it is as near", first+i)
		}
	}
}

// distance is the largest difference of two rows of logits.
func distance(a, b []float32) float64 {
	worst := 0.0
	for i := range a {
		worst = max(worst, math.Abs(float64(a[i]-b[i])))
	}
	return worst
}

func TestEvaluatorErrors(t *testing.T) {
	lib, model := files(t)
	for name, o := range map[string]EvaluatorOptions{
		"no tokens":       {Lib: lib, Model: model},
		"too many":        {Lib: lib, Model: model, Tokens: maxEvaluated + 1},
		"no such model":   {Lib: lib, Model: t.TempDir() + "/none.gguf", Tokens: 8},
		"not a model":     {Lib: lib, Model: "evaluate_test.go", Tokens: 8},
		"negative thread": {Lib: lib, Model: model, Tokens: 8, Threads: -1},
	} {
		if e, err := OpenEvaluator(o); err == nil {
			e.Close()
			t.Errorf("%s: no error", name)
		}
	}
	e, err := OpenEvaluator(EvaluatorOptions{Lib: lib, Model: model, Tokens: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for name, c := range map[string]struct {
		tokens []engine.Token
		first  int
		want   string
	}{
		"none":           {nil, 0, "0 tokens"},
		"too long":       {make([]engine.Token, 9), 0, "9 tokens"},
		"first too late": {make([]engine.Token, 4), 4, "from 4 on"},
		"foreign token":  {[]engine.Token{1, engine.Token(e.Vocab())}, 0, "not one of"},
		"negative token": {[]engine.Token{-1}, 0, "not one of"},
	} {
		if _, err := e.Logits(c.tokens, c.first); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
