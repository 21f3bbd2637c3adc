package bench

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Quantile returns the q-quantile (0…1) of sorted values, interpolated between
// neighbours as R's type 7 and NumPy do; 0 if there are none.
func Quantile[T ~int64 | ~float64](sorted []T, q float64) T {
	if len(sorted) == 0 {
		return 0
	}
	at := min(max(q, 0), 1) * float64(len(sorted)-1)
	i := int(math.Floor(at))
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + T((at-float64(i))*float64(sorted[i+1]-sorted[i]))
}

// Median of values in any order; 0 if there are none.
func Median[T interface {
	~int64 | ~float64
	cmp.Ordered
}](values []T) T {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return Quantile(sorted, 0.5)
}

// Latency says how durations are spread.
type Latency struct {
	P50 time.Duration `json:"p50"`
	P95 time.Duration `json:"p95"`
	P99 time.Duration `json:"p99"`
	Max time.Duration `json:"max"`
}

// NewLatency sorts values in place.
func NewLatency(values []time.Duration) Latency {
	slices.Sort(values)
	return Latency{
		P50: Quantile(values, 0.50),
		P95: Quantile(values, 0.95),
		P99: Quantile(values, 0.99),
		Max: Quantile(values, 1),
	}
}

// Spread is the median of what several rounds gave, and their extremes.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// NewSpread of values in any order; NaN throughout if there are none.
func NewSpread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{math.NaN(), math.NaN(), math.NaN()}
	}
	return Spread{Median(values), slices.Min(values), slices.Max(values)}
}

// Known says whether there were any values.
func (s Spread) Known() bool { return !math.IsNaN(s.Median) }

// spreadOf is the spread of those values that are numbers.
func spreadOf(values []float64) Spread {
	return NewSpread(slices.DeleteFunc(slices.Clone(values), func(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) }))
}

// Ratios divides over by under, round by round, and returns their spread.
// Rounds that only one of them has, or where under is 0, are left out.
func Ratios(over, under []float64) Spread {
	var r []float64
	for i := range min(len(over), len(under)) {
		r = append(r, over[i]/under[i])
	}
	return spreadOf(r)
}

func (s Spread) String() string {
	return fmt.Sprintf("%.3g (%.3g…%.3g)", s.Median, s.Min, s.Max)
}
