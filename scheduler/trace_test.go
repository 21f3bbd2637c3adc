package scheduler

import (
	"fmt"
	"strconv"

	"llamero/engine"
)

// trace is what a simulation did, in full: two runs that differ in anything differ here.
type trace struct{ text []byte }

func (t *trace) line(format string, args ...any) {
	t.text = fmt.Appendf(t.text, format, args...)
	t.text = append(t.text, '\n')
}

// numbers writes a word and numbers behind it; lines of them are most of a trace.
func (t *trace) numbers(word string, list ...int64) {
	t.text = append(t.text, word...)
	for _, n := range list {
		t.text = append(t.text, ' ')
		t.text = strconv.AppendInt(t.text, n, 10)
	}
}

func numbersOf[T ~int32](t *trace, list []T) {
	t.text = append(t.text, " ["...)
	for i, n := range list {
		if i > 0 {
			t.text = append(t.text, ' ')
		}
		t.text = strconv.AppendInt(t.text, int64(n), 10)
	}
	t.text = append(t.text, ']')
}

var editNames = map[engine.EditKind]string{
	engine.EditOpen: "open", engine.EditTrim: "trim", engine.EditMove: "move", engine.EditFork: "fork",
	engine.EditDrop: "drop", engine.EditRestore: "restore", engine.EditSave: "save",
}

var passNames = map[engine.PassKind]string{engine.PassDecode: "decode", engine.PassPrefill: "prefill"}

// plan writes a plan as it is given to the engine.
func (t *trace) plan(p *engine.Plan) {
	t.numbers("step", int64(p.Step), p.Expected)
	t.text = append(t.text, '\n')
	for i := range p.Edits {
		e := &p.Edits[i]
		t.text = append(t.text, "  "...)
		t.numbers(editNames[e.Kind], int64(e.Slot))
		switch e.Kind {
		case engine.EditOpen:
			t.numbers(" prompt", int64(e.Len), int64(e.Sampling.Temperature), int64(e.Sampling.Seed), int64(e.Sampling.Choice))
		case engine.EditMove:
			t.numbers(" to", int64(e.To))
		case engine.EditFork:
			t.numbers(" to", int64(e.To), int64(e.Len))
		case engine.EditTrim:
			t.numbers(" to", int64(e.Len))
		case engine.EditRestore:
			numbersOf(t, e.Pages)
			numbersOf(t, e.Tokens)
		case engine.EditSave:
			t.numbers(" from", int64(e.First))
			numbersOf(t, e.Pages)
		}
		t.text = append(t.text, '\n')
	}
	for i := range p.Passes {
		t.text = append(t.text, "  "...)
		t.text = append(t.text, passNames[p.Passes[i].Kind]...)
		for j := range p.Passes[i].Rows {
			t.row(&p.Passes[i].Rows[j])
		}
		t.text = append(t.text, '\n')
	}
}

// row is slot@position, *: it samples, ?: it scores, ~: it is idle, and its tokens.
func (t *trace) row(r *engine.Row) {
	t.numbers("", int64(r.Slot))
	t.text = append(t.text, '@')
	t.text = strconv.AppendInt(t.text, int64(r.Pos), 10)
	if r.Sample {
		t.text = append(t.text, '*')
	}
	if r.Score {
		t.text = append(t.text, '?')
		t.text = strconv.AppendInt(t.text, int64(r.Next), 10)
	}
	if r.Idle {
		t.text = append(t.text, '~')
	}
	numbersOf(t, r.Tokens)
}

// event writes what somebody was told.
func (t *trace) event(e *Event) {
	t.numbers("    "+e.Finish.String()+[...]string{EventAdmitted: "admitted", EventTokens: "tokens", EventDone: "done", EventLookup: "lookup"}[e.Kind],
		int64(e.ID), int64(e.Choice), int64(e.At), int64(e.Cached))
	for i := range e.Tokens {
		t.numbers("", int64(e.Tokens[i].Token))
	}
	if len(e.Scores) > 0 {
		t.numbers(" scores", int64(len(e.Scores)))
	}
	if e.Err != nil {
		t.text = append(t.text, ' ')
		t.text = append(t.text, e.Err.Error()...)
	}
	t.text = append(t.text, '\n')
}
