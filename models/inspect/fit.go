package inspect

import (
	"llamero/engine/llama"
)

// Memory is what a model costs here and how much context fits.
type Memory struct {
	Machine  int64    `json:"machine"` // bytes that a process may use; 0: not known
	Weights  int64    `json:"weights"` // bytes of the file, which is mapped
	Budget   int64    `json:"kv_budget"`
	KV       []KVType `json:"kv"`
	Fits     []Slots  `json:"fits"`  // with f16
	Serve    *Slots   `json:"serve"` // what serve would take by itself; nil: not known
	TooLarge bool     `json:"too_large,omitempty"`
}

// KVType is what a token's KV takes, stored as a type.
type KVType struct {
	Type   string `json:"type"`
	Bytes  int    `json:"bytes_per_token"`
	Tokens int64  `json:"tokens_that_fit"`
}

// Slots are so many requests at once, of so many tokens each.
type Slots struct {
	Layout string `json:"layout"`
	Slots  int    `json:"slots"`
	Tokens int    `json:"tokens"` // a slot can have
	Pool   int    `json:"pool"`   // tokens that all have together
	KV     int64  `json:"kv_bytes"`
}

// slotCounts are shown beside what serve would take.
var slotCounts = []int{1, 2, 4, 8, 16, 32, 64}

// Fit says what fits into a KV budget on a machine with so much memory, for a server
// with so many slots.
func (d *Description) Fit(machine, budget int64, slots int) Memory {
	m := Memory{Machine: machine, Weights: d.Bytes, Budget: budget}
	m.TooLarge = machine > 0 && d.Bytes+budget > machine
	for _, t := range []string{"f16", "q8_0"} {
		if n, err := d.TokenBytes(t, t); err == nil {
			m.KV = append(m.KV, KVType{Type: t, Bytes: n, Tokens: budget / int64(n)})
		}
	}
	if len(m.KV) == 0 || d.Context == 0 {
		return m
	}
	for _, n := range slotCounts {
		if s := d.slots(budget, n); s != nil {
			m.Fits = append(m.Fits, *s)
		}
	}
	m.Serve = d.slots(budget, slots)
	return m
}

// slots asks the engine's own arithmetic; nil where nothing fits.
func (d *Description) slots(budget int64, n int) *Slots {
	bytes, err := d.TokenBytes("f16", "f16")
	if err != nil {
		return nil
	}
	l, err := llama.Fit(llama.Options{Slots: n, KVBudget: budget}, d.Name, bytes, d.Context)
	if err != nil {
		return nil
	}
	return &Slots{Layout: l.Layout.String(), Slots: l.Slots, Tokens: l.SlotTokens, Pool: l.PoolTokens, KV: int64(l.PoolTokens) * int64(l.TokenBytes)}
}
