package bench

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SweepSpec names an option and the values that it takes in turn.
type SweepSpec struct {
	Name   string
	Values []float64 // ascending; a time in milliseconds
	Labels []string  // as they were written
}

// sweep is an option that can be swept.
type sweep struct {
	axis    string
	log     bool
	parse   func(string) (float64, error)
	apply   func(*Options, float64) // nil: not an option of the workload
	figures []string
}

var sweeps = map[string]sweep{
	"clients": {"clients", true, whole(MaxClients), func(o *Options, v float64) { o.Clients = int(v) }, []string{"ms_per_token", "ttft_p50_s", "itl_p99_ms"}},
	"words":   {"words of a prompt", true, whole(MaxWords), func(o *Options, v float64) { o.Words = int(v) }, []string{"wall_s", "ttft_p50_s", "itl_p99_ms"}},
	"tokens":  {"tokens of an answer", true, whole(MaxTokens), func(o *Options, v float64) { o.Tokens = int(v) }, []string{"ms_per_token", "ttft_p50_s", "itl_p99_ms"}},
	"rate":    {"requests a second", true, fraction(MaxRate), func(o *Options, v float64) { o.Rate = v }, []string{"tokens_per_second", "ttft_p50_s", "itl_p99_ms"}},
	// These two are not options of a workload: SweepTargetITL is one of the server's,
	// SweepFill one of the engine's.
	SweepTargetITL: {"target_itl", true, milliseconds64, nil, []string{"wall_s", "ttft_p50_s", "itl_p99_ms"}},
	SweepFill:      {"share of the pool's tokens that others hold", false, fraction(1), nil, []string{StepFigure}},
}

// Sweeps that need more than another workload.
const (
	SweepTargetITL = "target-itl"
	SweepFill      = "fill"
)

// maxValues bounds a sweep.
const maxValues = 64

// SweepNames lists what can be swept.
func SweepNames() []string {
	names := make([]string, 0, len(sweeps))
	for name := range sweeps {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func whole(most int) func(string) (float64, error) {
	return func(s string) (float64, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > most {
			return 0, fmt.Errorf("%q is not a whole number of 1…%d", s, most)
		}
		return float64(n), nil
	}
}

func fraction(most float64) func(string) (float64, error) {
	return func(s string) (float64, error) {
		x, err := strconv.ParseFloat(s, 64)
		if err != nil || !(x > 0 && x <= most) { // NaN fails
			return 0, fmt.Errorf("%q is not a number above 0 and at most %g", s, most)
		}
		return x, nil
	}
}

func milliseconds64(s string) (float64, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Millisecond || d > time.Minute {
		return 0, fmt.Errorf("%q is not a time of 1ms…1m", s)
	}
	return d.Seconds() * 1000, nil
}

// ParseSweep reads NAME=VALUE,VALUE…
func ParseSweep(text string) (SweepSpec, error) {
	name, list, ok := strings.Cut(text, "=")
	kind, known := sweeps[name]
	if !ok || !known {
		return SweepSpec{}, fmt.Errorf("%q is not NAME=VALUE,VALUE… with a name of %s", text, strings.Join(SweepNames(), ", "))
	}
	type value struct {
		x     float64
		label string
	}
	var values []value
	var errs []error
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		x, err := kind.parse(part)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		values = append(values, value{x, part})
		if len(values) > maxValues {
			return SweepSpec{}, fmt.Errorf("%s: more than %d values", name, maxValues)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return SweepSpec{}, err
	}
	slices.SortFunc(values, func(a, b value) int { return cmp.Compare(a.x, b.x) })
	spec := SweepSpec{Name: name}
	for i, v := range values {
		if i > 0 && values[i-1].x == v.x {
			return SweepSpec{}, fmt.Errorf("%s: %s is there twice", name, v.label)
		}
		spec.Values, spec.Labels = append(spec.Values, v.x), append(spec.Labels, v.label)
	}
	return spec, nil
}

// Check says whether a workload can be swept so.
func (s SweepSpec) Check(workload string, o Options) error {
	switch {
	case s.Name == SweepFill:
		return nil
	case s.Name == "rate" && workload != "poisson":
		return fmt.Errorf("rate: workload %s has none; poisson has", workload)
	case s.Name == "clients" && workload == "single":
		return errors.New("clients: workload single has one")
	}
	var errs []error
	for i := range s.Values {
		if err := s.Apply(o, i).Check(workload); err != nil {
			errs = append(errs, fmt.Errorf("%s=%s: %w", s.Name, s.Labels[i], err))
		}
	}
	return errors.Join(errs...)
}

// Apply returns the options with the i-th value in its place.
func (s SweepSpec) Apply(o Options, i int) Options {
	if apply := sweeps[s.Name].apply; apply != nil {
		apply(&o, s.Values[i])
	}
	// Prompts of one value must not begin like those of another: a server would find
	// them in its cache.
	o.Seed += uint64(i+1) << 32
	return o
}
