package template

import (
	"errors"
	"fmt"
	"time"

	"github.com/ardanlabs/jinja"
)

// ErrBudget: rendering took more time or memory than a chat template may.
var ErrBudget = errors.New("over budget")

const (
	maxTime   = 5 * time.Second // wall clock; a long conversation takes milliseconds
	maxOutput = 64 << 20        // bytes printed, those into variables included
	maxString = 16 << 20        // bytes of one variable
	maxItems  = 1 << 18         // items of one variable, or of a range
	maxMacros = 64              // macro calls within each other
)

// The names by which lowered templates report; a template that used them itself
// would only spend its own budget.
const (
	fnTick  = "__llamero_tick"  // at the start of each turn of a loop
	fnEnter = "__llamero_enter" // at the start of a macro
	fnLeave = "__llamero_leave" // at its end
	fnOut   = "__llamero_out"   // around what is printed
	fnValue = "__llamero_value" // around what is assigned
)

// budget is what one rendering may still spend. What it cannot see is a single
// expression that multiplies strings; assigned or printed, its result is seen.
type budget struct {
	start  time.Time
	macros int
	output int
}

func newBudget() *budget { return &budget{start: time.Now()} }

func (b *budget) install(vars map[string]jinja.Value) {
	set := func(name string, fn func(jinja.Value) error) {
		vars[name] = jinja.NewCallable(name, func(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
			if len(args) == 0 {
				return jinja.None(), fn(jinja.None())
			}
			return args[0], fn(args[0])
		})
	}
	set(fnTick, func(jinja.Value) error { return b.tick() })
	set(fnEnter, func(jinja.Value) error {
		if b.macros++; b.macros > maxMacros {
			return fmt.Errorf("%w: macros nest more than %d deep", ErrBudget, maxMacros)
		}
		return b.tick()
	})
	set(fnLeave, func(jinja.Value) error { b.macros--; return nil })
	set(fnOut, func(v jinja.Value) error {
		if b.output += size(v); b.output > maxOutput {
			return fmt.Errorf("%w: more than %d MiB printed", ErrBudget, maxOutput>>20)
		}
		return nil
	})
	set(fnValue, func(v jinja.Value) error {
		limit, what := maxItems, "items"
		if v.IsString() {
			limit, what = maxString, "bytes"
		}
		if size(v) > limit {
			return fmt.Errorf("%w: a variable of more than %d %s", ErrBudget, limit, what)
		}
		return nil
	})
}

func (b *budget) tick() error {
	if time.Since(b.start) > maxTime {
		return fmt.Errorf("%w: not done after %v", ErrBudget, maxTime)
	}
	return nil
}

func size(v jinja.Value) int {
	switch {
	case v.IsString():
		return len(v.AsString())
	case v.IsList():
		return v.AsList().Len()
	case v.IsDict():
		return v.AsDict().Len()
	}
	return 0
}
