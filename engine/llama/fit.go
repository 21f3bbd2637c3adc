package llama

import (
	"fmt"

	"llamero/engine"
)

// Fit says what Open would make of o for a model whose token takes tokenBytes of KV
// and that was trained for contextTrain tokens (0: unknown): layout, slots and
// tokens, as far as KVBudget goes. It loads nothing.
func Fit(o Options, name string, tokenBytes, contextTrain int) (engine.Limits, error) {
	l := engine.Limits{
		Layout:     o.Layout,
		Slots:      o.Slots,
		SlotTokens: o.SlotTokens,
		PassTokens: o.PassTokens,
		TokenBytes: tokenBytes,
	}
	if l.Slots == 0 {
		l.Slots = defaultSlots
	}
	if l.PassTokens == 0 {
		l.PassTokens = defaultPassTokens
	}
	l.PassTokens = max(l.PassTokens, pad(l.Slots, widthStep))
	budget := o.KVBudget
	if budget == 0 {
		budget = defaultKVBudget
	}
	poolTokens := int(budget / int64(max(1, l.TokenBytes)))
	if contextTrain > 0 && l.SlotTokens > contextTrain {
		return l, fmt.Errorf("engine: %d tokens a slot; %s was trained for %d", l.SlotTokens, name, contextTrain)
	}
	if l.SlotTokens == 0 {
		l.SlotTokens = contextTrain
		if share := poolTokens / l.Slots / ctxPad * ctxPad; l.Layout != engine.Unified && share >= minSplitTokens && share < l.SlotTokens {
			l.SlotTokens = share
		}
	}
	if l.Layout == 0 {
		l.Layout = engine.Split
		if l.Slots > 1 && l.Slots*l.SlotTokens > poolTokens {
			l.Layout = engine.Unified
		}
	}
	switch l.Layout {
	case engine.Split:
		l.Scratch = pad(l.Slots, widthStep) - l.Slots
		l.PoolTokens = l.Slots * l.SlotTokens
	case engine.Unified:
		l.Scratch = 1
		l.PoolTokens = min(max(poolTokens, l.SlotTokens), l.Slots*l.SlotTokens) / ctxPad * ctxPad
		l.SlotTokens = min(l.SlotTokens, l.PoolTokens)
	}
	if l.SlotTokens < 2 || l.PoolTokens < 2 {
		return l, fmt.Errorf("engine: a KV budget of %d MiB leaves no room for a slot", budget>>20)
	}
	// A pass of all slots may be rounded up.
	l.PassOutputs = max(l.Slots+l.Scratch, pad(l.Slots, widthStep), 64)
	return l, nil
}
