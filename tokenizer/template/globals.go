package template

import (
	"errors"
	"fmt"
	"time"

	"github.com/ardanlabs/jinja"
	"github.com/ncruces/go-strftime"
)

// maxFormat bounds strftime_now's format and, in effect, its result.
const maxFormat = 256

// installGlobals replaces the library's functions that look at the clock, fail or
// grow without bound.
func installGlobals(vars map[string]jinja.Value, now func() time.Time) {
	vars["raise_exception"] = jinja.NewCallable("raise_exception", raise)
	vars["range"] = jinja.NewCallable("range", boundedRange)
	vars["strftime_now"] = jinja.NewCallable("strftime_now", func(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
		if len(args) != 1 || !args[0].IsString() || len(args[0].AsString()) > maxFormat {
			return jinja.Undefined(), fmt.Errorf("strftime_now takes a format of at most %d bytes", maxFormat)
		}
		return jinja.NewString(strftime.Format(args[0].AsString(), now())), nil
	})
}

func raise(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	msg := "the chat template refuses this conversation"
	if len(args) > 0 && args[0].IsString() {
		msg = args[0].AsString()
	}
	return jinja.Undefined(), &RequestError{Msg: msg}
}

func boundedRange(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	start, stop, step := int64(0), int64(0), int64(1)
	var n [3]int64
	if len(args) < 1 || len(args) > 3 {
		return jinja.Undefined(), errors.New("range takes one to three numbers")
	}
	for i, a := range args {
		if !a.IsInt() {
			return jinja.Undefined(), errors.New("range takes whole numbers")
		}
		n[i] = a.AsInt()
	}
	switch len(args) {
	case 1:
		stop = n[0]
	case 2:
		start, stop = n[0], n[1]
	case 3:
		start, stop, step = n[0], n[1], n[2]
	}
	if step == 0 {
		return jinja.Undefined(), errors.New("range: step must not be zero")
	}
	var items []jinja.Value
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(items) == maxItems {
			return jinja.Undefined(), fmt.Errorf("%w: a range of more than %d numbers", ErrBudget, maxItems)
		}
		items = append(items, jinja.NewInt(i))
		if step > 0 && i > stop-step || step < 0 && i < stop-step {
			break // the next one would be past the end, or overflow
		}
	}
	return jinja.NewList(items), nil
}
