package engine

import (
	"errors"
	"slices"
	"testing"
)

func testLimits(layout Layout) Limits {
	return Limits{
		Layout: layout, Slots: 4, Scratch: 1, SlotTokens: 8, PoolTokens: 32, PassTokens: 12, PassOutputs: 6,
		Vocab: 100, TokenBytes: 1, Trims: true, PageTokens: 2, Pages: 6,
	}
}

func row(slot, pos int32, tokens ...Token) Row { return Row{Slot: slot, Pos: pos, Tokens: tokens} }

func decode(rows ...Row) Pass { return Pass{Kind: PassDecode, Rows: rows} }

// ledger3 has slots 0 (3 tokens), 1 (2 tokens) and 2 (empty) open, and 3 free.
func ledger3(t *testing.T, l Limits) *Ledger {
	t.Helper()
	led := NewLedger(l)
	for i := range int32(3) {
		do(t, led, Edit{Kind: EditOpen, Slot: i, Len: 3})
	}
	run(t, led, decode(row(0, 0, 1, 2, 3)))
	run(t, led, decode(row(1, 0, 4, 5)))
	return led
}

func do(t *testing.T, l *Ledger, e Edit) {
	t.Helper()
	if err := l.CheckEdit(e); err != nil {
		t.Fatal(err)
	}
	l.Apply(e)
}

func run(t *testing.T, l *Ledger, p Pass) {
	t.Helper()
	if err := l.CheckPass(p); err != nil {
		t.Fatal(err)
	}
	l.ApplyPass(p)
}

func (l *Ledger) tokens() [][]Token {
	var out [][]Token
	for i := range l.Len() {
		out = append(out, slices.Clone(l.Slot(int32(i)).Tokens))
	}
	return out
}

func TestLedgerRefusesEdits(t *testing.T) {
	full := func(l *Limits) { l.PoolTokens = 7 }
	stiff := func(l *Limits) { l.Trims = false }
	plain := func(l *Limits) { l.Pages = 0 }
	for _, c := range []struct {
		name   string
		change func(*Limits)
		e      Edit
		want   error
	}{
		{"no kind", nil, Edit{Slot: 0}, ErrPlan},
		{"an unknown kind", nil, Edit{Kind: 99, Slot: 0}, ErrPlan},
		{"a negative slot", nil, Edit{Kind: EditDrop, Slot: -1}, ErrPlan},
		{"a scratch slot", nil, Edit{Kind: EditOpen, Slot: 4}, ErrPlan},
		{"a slot too many", nil, Edit{Kind: EditDrop, Slot: 5}, ErrPlan},
		{"open of an open slot", nil, Edit{Kind: EditOpen, Slot: 2}, ErrPlan},
		{"open with a negative prompt", nil, Edit{Kind: EditOpen, Slot: 3, Len: -1}, ErrPlan},
		{"open with bad sampling", nil, Edit{Kind: EditOpen, Slot: 3, Sampling: Sampling{TopP: 2}}, ErrPlan},
		{"trim of a closed slot", nil, Edit{Kind: EditTrim, Slot: 3}, ErrPlan},
		{"trim that lengthens", nil, Edit{Kind: EditTrim, Slot: 0, Len: 4}, ErrPlan},
		{"trim to less than nothing", nil, Edit{Kind: EditTrim, Slot: 0, Len: -1}, ErrPlan},
		{"trim of what cannot be trimmed", stiff, Edit{Kind: EditTrim, Slot: 0, Len: 2}, ErrPlan},
		{"trim to the same length", stiff, Edit{Kind: EditTrim, Slot: 0, Len: 3}, nil},
		{"trim to nothing", stiff, Edit{Kind: EditTrim, Slot: 0, Len: 0}, nil},
		{"move of a closed slot", nil, Edit{Kind: EditMove, Slot: 3, To: 2}, ErrPlan},
		{"move to itself", nil, Edit{Kind: EditMove, Slot: 0, To: 0}, ErrPlan},
		{"move to a slot in use", nil, Edit{Kind: EditMove, Slot: 0, To: 1}, ErrPlan},
		{"move to an open slot", nil, Edit{Kind: EditMove, Slot: 0, To: 2}, ErrPlan},
		{"move to a scratch slot", nil, Edit{Kind: EditMove, Slot: 0, To: 4}, ErrPlan},
		{"move", stiff, Edit{Kind: EditMove, Slot: 0, To: 3}, nil},
		{"fork of a closed slot", nil, Edit{Kind: EditFork, Slot: 3, To: 2, Len: 1}, ErrPlan},
		{"fork into a closed slot", nil, Edit{Kind: EditFork, Slot: 0, To: 3, Len: 1}, ErrPlan},
		{"fork into a slot in use", nil, Edit{Kind: EditFork, Slot: 0, To: 1, Len: 1}, ErrPlan},
		{"fork into itself", nil, Edit{Kind: EditFork, Slot: 2, To: 2, Len: 1}, ErrPlan},
		{"fork of nothing", nil, Edit{Kind: EditFork, Slot: 0, To: 2}, ErrPlan},
		{"fork of more than there is", nil, Edit{Kind: EditFork, Slot: 0, To: 2, Len: 4}, ErrPlan},
		{"a partial fork of what cannot be trimmed", stiff, Edit{Kind: EditFork, Slot: 0, To: 2, Len: 2}, ErrPlan},
		{"a whole fork of what cannot be trimmed", stiff, Edit{Kind: EditFork, Slot: 0, To: 2, Len: 3}, nil},
		{"a fork into a full pool", full, Edit{Kind: EditFork, Slot: 0, To: 2, Len: 3}, nil},
		{"a fork that fills the pool", full, Edit{Kind: EditFork, Slot: 0, To: 2, Len: 2}, nil},
		{"restore into a closed slot", nil, Edit{Kind: EditRestore, Slot: 3, Tokens: []Token{1, 2}, Pages: []int32{0}}, ErrPlan},
		{"restore into a slot in use", nil, Edit{Kind: EditRestore, Slot: 0, Tokens: []Token{1, 2}, Pages: []int32{0}}, ErrPlan},
		{"restore of nothing", nil, Edit{Kind: EditRestore, Slot: 2}, ErrPlan},
		{"restore of more than a slot holds", nil, Edit{Kind: EditRestore, Slot: 2, Tokens: make([]Token, 10), Pages: []int32{0, 1, 2, 3, 4}}, ErrPlan},
		{"restore of what is no token", nil, Edit{Kind: EditRestore, Slot: 2, Tokens: []Token{1, 100}, Pages: []int32{0}}, ErrPlan},
		{"restore of what cannot be paged", plain, Edit{Kind: EditRestore, Slot: 2, Tokens: []Token{1, 2}, Pages: []int32{0}}, ErrPlan},
		{"restore of half a page", nil, Edit{Kind: EditRestore, Slot: 2, Tokens: []Token{1}, Pages: []int32{0}}, ErrPlan},
		{"restore from a page that there is not", nil, Edit{Kind: EditRestore, Slot: 2, Tokens: []Token{1, 2}, Pages: []int32{6}}, ErrPlan},
		{"restore without a page", nil, Edit{Kind: EditRestore, Slot: 2, Tokens: []Token{1, 2}, Pages: []int32{-1}}, ErrPlan},
		{"restore from a page twice", nil, Edit{Kind: EditRestore, Slot: 2, Tokens: make([]Token, 4), Pages: []int32{1, 1}}, ErrPlan},
		{"a restore that the pool cannot hold", full, Edit{Kind: EditRestore, Slot: 2, Tokens: make([]Token, 4), Pages: []int32{0, 1}}, ErrNoRoom},
		{"restore", nil, Edit{Kind: EditRestore, Slot: 2, Tokens: make([]Token, 8), Pages: []int32{5, 1, 0, 3}}, nil},
		{"save of a closed slot", nil, Edit{Kind: EditSave, Slot: 3, Pages: []int32{0}}, ErrPlan},
		{"save of nothing", nil, Edit{Kind: EditSave, Slot: 0}, ErrPlan},
		{"save of more than there is", nil, Edit{Kind: EditSave, Slot: 0, First: 1, Pages: []int32{0}}, ErrPlan},
		{"save from before the beginning", nil, Edit{Kind: EditSave, Slot: 0, First: -1, Pages: []int32{0}}, ErrPlan},
		{"save from beyond all numbers", nil, Edit{Kind: EditSave, Slot: 0, First: 1<<31 - 1, Pages: []int32{0}}, ErrPlan},
		{"save into a page that there is not", nil, Edit{Kind: EditSave, Slot: 0, Pages: []int32{6}}, ErrPlan},
		{"save into a page below none", nil, Edit{Kind: EditSave, Slot: 0, Pages: []int32{-2}}, ErrPlan},
		{"save of what cannot be paged", plain, Edit{Kind: EditSave, Slot: 0, Pages: []int32{0}}, ErrPlan},
		{"save", nil, Edit{Kind: EditSave, Slot: 0, Pages: []int32{5}}, nil},
		{"save that leaves a page out", nil, Edit{Kind: EditSave, Slot: 0, Pages: []int32{-1}}, nil},
		{"drop of a free slot", nil, Edit{Kind: EditDrop, Slot: 3}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := testLimits(Split)
			if c.change != nil {
				c.change(&l)
			}
			led := ledger3(t, l)
			before := led.tokens()
			if err := led.CheckEdit(c.e); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if !slices.EqualFunc(led.tokens(), before, slices.Equal) {
				t.Error("a check has changed the ledger")
			}
		})
	}
}

func TestLedgerRefusesPasses(t *testing.T) {
	idle := func(slot, pos int32, n int) Row {
		return Row{Slot: slot, Pos: pos, Tokens: make([]Token, n), Idle: true}
	}
	with := func(r Row, change func(*Row)) Row { change(&r); return r }
	guesses := func(tokens ...Token) func(*Row) { return func(r *Row) { r.Guess, r.Sample = tokens, true } }
	stiff := func(l *Limits) { l.Trims = false }
	narrow := func(l *Limits) { l.PoolTokens = 6 }
	const both = Layout(0)
	for _, c := range []struct {
		name   string
		layout Layout // both: either
		change func(*Limits)
		p      Pass
		want   error
	}{
		{"no rows", both, nil, decode(), ErrPlan},
		{"a negative slot", both, nil, decode(row(-1, 0, 1)), ErrPlan},
		{"a slot too many", both, nil, decode(row(5, 0, 1)), ErrPlan},
		{"a row without tokens", both, nil, decode(row(0, 3)), ErrPlan},
		{"a position skipped", both, nil, decode(row(0, 4, 1)), ErrPlan},
		{"a position again", both, nil, decode(row(0, 2, 1)), ErrPlan},
		{"a closed slot", both, nil, decode(row(3, 0, 1)), ErrPlan},
		{"a scratch slot", both, nil, decode(row(4, 0, 1)), ErrPlan},
		{"a negative token", both, nil, decode(row(0, 3, -1)), ErrPlan},
		{"a token beyond the vocabulary", both, nil, decode(row(0, 3, 100)), ErrPlan},
		{"an idle token beyond the vocabulary", both, nil, decode(Row{Slot: 0, Pos: 3, Tokens: []Token{100}, Idle: true}), ErrPlan},
		{"a scored token beyond the vocabulary", both, nil, decode(with(row(0, 3, 1), func(r *Row) { r.Score, r.Next = true, 100 })), ErrPlan},
		{"a scored token below None", both, nil, decode(with(row(0, 3, 1), func(r *Row) { r.Score, r.Next = true, -2 })), ErrPlan},
		{"scores", both, nil, decode(with(row(0, 3, 1), func(r *Row) { r.Score, r.Next = true, 99 })), nil},
		{"a slot overgrown", both, nil, decode(row(0, 3, 1, 2, 3, 4, 5, 6)), ErrPlan},
		{"a slot filled", both, nil, decode(row(0, 3, 1, 2, 3, 4, 5)), nil},
		{"an idle row far behind a slot's end", Split, nil, decode(idle(0, 3, 7)), ErrPlan},
		{"an idle row just behind a slot's end", both, nil, decode(idle(0, 3, 6)), nil},
		{"an idle row that samples", both, nil, decode(with(idle(0, 3, 1), func(r *Row) { r.Sample = true })), ErrPlan},
		{"an idle row that scores", both, nil, decode(with(idle(0, 3, 1), func(r *Row) { r.Score = true })), ErrPlan},
		{"an idle row that guesses", both, nil, decode(with(idle(0, 3, 1), guesses(1))), ErrPlan},
		{"an idle row behind what cannot be trimmed", both, stiff, decode(idle(0, 3, 1)), ErrPlan},
		{"an idle row in an empty slot of what cannot be trimmed", both, stiff, decode(idle(2, 0, 1)), nil},
		{"an idle row in a scratch slot", both, nil, decode(idle(4, 0, 1)), nil},
		{"a guess", both, nil, decode(with(row(2, 0, 1), guesses(1, 2))), nil},
		{"a guess that fills a slot", both, nil, decode(with(row(0, 3, 1), guesses(2, 3, 4, 5))), nil},
		{"a guess beyond a slot's end", both, nil, decode(with(row(0, 3, 1), guesses(2, 3, 4, 5, 6))), ErrPlan},
		{"a guess that nobody draws", both, nil, decode(with(with(row(2, 0, 1), guesses(1)), func(r *Row) { r.Sample = false })), ErrPlan},
		{"a guess that is scored", both, nil, decode(with(with(row(2, 0, 1), guesses(1)), func(r *Row) { r.Score, r.Next = true, 1 })), ErrPlan},
		{"a guess beyond the vocabulary", both, nil, decode(with(row(2, 0, 1), guesses(1, 100))), ErrPlan},
		{"a guess of what cannot be trimmed", both, stiff, decode(with(row(2, 0, 1), guesses(1))), ErrPlan},
		{"a guess of more outputs than fit", both, nil, decode(with(row(2, 0, 1), guesses(2, 3, 4, 5, 6, 7))), ErrPlan},
		{"unequal guesses", Split, nil, decode(with(row(0, 3, 1), guesses(1)), row(1, 2, 1)), ErrPlan},
		{"a guess as wide as two tokens", Split, nil, decode(with(row(0, 3, 1), guesses(1)), row(1, 2, 1, 2)), nil},
		{"a guess for which there is no room", Unified, narrow, decode(with(row(2, 0, 1), guesses(1))), ErrNoRoom},
		{"a slot twice", Unified, nil, decode(row(0, 3, 1), row(0, 4, 1)), ErrPlan},
		{"too many tokens", Unified, nil, decode(row(0, 3, 1, 2, 3, 4, 5), row(1, 2, 1, 2, 3, 4, 5, 6), row(2, 0, 1, 2)), ErrPlan},
		{"too many outputs", both, nil, decode(with(row(2, 0, 1, 2, 3, 4, 5, 6, 7), func(r *Row) { r.Score, r.Next = true, 1 })), ErrPlan},
		{"idle rows of more outputs than fit", Unified, nil, decode(idle(4, 0, 7)), ErrPlan},
		{"idle rows of a prompt pass, which have none", Unified, nil, Pass{Kind: PassPrefill, Rows: []Row{idle(4, 0, 7)}}, nil},
		{"slots in decreasing order", Split, nil, decode(row(1, 2, 1), row(0, 3, 1)), ErrPlan},
		{"a hole", Split, nil, decode(row(0, 3, 1), row(2, 0, 1)), ErrPlan},
		{"unequal rows", Split, nil, decode(row(0, 3, 1), row(1, 2, 1, 2)), ErrPlan},
		{"any mix in unified", Unified, nil, decode(row(2, 0, 1), row(0, 3, 1, 2)), nil},
		{"a row for each", both, nil, decode(row(0, 3, 1), row(1, 2, 1), row(2, 0, 1), idle(3, 0, 1), idle(4, 0, 1)), nil},
		{"more than the pool holds", Unified, narrow, decode(row(0, 3, 1), row(1, 2, 1)), ErrNoRoom},
		{"more than the pool holds, idle", Unified, narrow, decode(row(0, 3, 1), idle(4, 0, 1)), ErrNoRoom},
		{"as much as the pool holds", Unified, narrow, decode(row(0, 3, 1)), nil},
	} {
		for _, layout := range []Layout{Split, Unified} {
			if c.layout != both && c.layout != layout {
				continue
			}
			t.Run(c.name+"/"+layout.String(), func(t *testing.T) {
				l := testLimits(layout)
				if c.change != nil {
					c.change(&l)
				}
				led := ledger3(t, l)
				if err := led.CheckPass(c.p); !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
			})
		}
	}
}

func TestLedgerRecords(t *testing.T) {
	led := ledger3(t, testLimits(Unified))
	expect := func(shared int, want ...[]Token) {
		t.Helper()
		used := -shared
		for i, w := range want {
			used += len(w)
			if got := led.Slot(int32(i)).Tokens; !slices.Equal(got, w) {
				t.Errorf("slot %d holds %v, want %v", i, got, w)
			}
		}
		if led.Used() != used {
			t.Errorf("%d tokens in use, want %d", led.Used(), used)
		}
	}
	expect(0, []Token{1, 2, 3}, []Token{4, 5}, nil, nil)
	do(t, led, Edit{Kind: EditFork, Slot: 0, To: 2, Len: 2})
	expect(2, []Token{1, 2, 3}, []Token{4, 5}, []Token{1, 2}, nil)
	run(t, led, decode(row(2, 2, 9), Row{Slot: 0, Pos: 3, Tokens: []Token{7}, Idle: true}))
	expect(2, []Token{1, 2, 3}, []Token{4, 5}, []Token{1, 2, 9}, nil)
	do(t, led, Edit{Kind: EditMove, Slot: 0, To: 3})
	expect(2, nil, []Token{4, 5}, []Token{1, 2, 9}, []Token{1, 2, 3})
	if led.Slot(0).Open || !led.Slot(3).Open || led.Slot(3).Prompt != 3 {
		t.Errorf("after a move: %+v and %+v", led.Slot(0), led.Slot(3))
	}
	// The slot that a move left takes another request; neither sees the other's tokens.
	do(t, led, Edit{Kind: EditOpen, Slot: 0, Sampling: Sampling{Seed: 5}})
	run(t, led, decode(row(0, 0, 20, 21, 22, 23)))
	run(t, led, decode(row(3, 3, 30)))
	expect(2, []Token{20, 21, 22, 23}, []Token{4, 5}, []Token{1, 2, 9}, []Token{1, 2, 3, 30})
	do(t, led, Edit{Kind: EditTrim, Slot: 3, Len: 1})
	expect(1, []Token{20, 21, 22, 23}, []Token{4, 5}, []Token{1, 2, 9}, []Token{1})
	do(t, led, Edit{Kind: EditDrop, Slot: 2})
	do(t, led, Edit{Kind: EditDrop, Slot: 1})
	expect(0, []Token{20, 21, 22, 23}, nil, nil, []Token{1})
	do(t, led, Edit{Kind: EditOpen, Slot: 1})
	do(t, led, Edit{Kind: EditRestore, Slot: 1, Tokens: []Token{6, 7}, Pages: []int32{2}})
	expect(0, []Token{20, 21, 22, 23}, []Token{6, 7}, nil, []Token{1})
	if led.Slot(0).Sampling.Seed != 5 || led.Slot(2).Open {
		t.Errorf("settings: %+v, %+v", led.Slot(0), led.Slot(2))
	}
}
