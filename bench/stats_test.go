package bench

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	tests := []struct {
		name   string
		sorted []float64
		q      float64
		want   float64
	}{
		{"none", nil, 0.5, 0},
		{"one", []float64{7}, 0.99, 7},
		{"even count: between the middle two", []float64{1, 2, 3, 4}, 0.5, 2.5},
		{"odd count: the middle", []float64{1, 2, 30}, 0.5, 2},
		{"lowest", []float64{1, 2, 3}, 0, 1},
		{"highest", []float64{1, 2, 3}, 1, 3},
		{"NumPy: percentile(arange(101), 99)", sequence(101), 0.99, 99},
		{"NumPy: percentile([10,20,30,40,50], 95)", []float64{10, 20, 30, 40, 50}, 0.95, 48},
		{"below 0 is the lowest", []float64{1, 2}, -1, 1},
		{"above 1 is the highest", []float64{1, 2}, 2, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := Quantile(test.sorted, test.q); math.Abs(got-test.want) > 1e-9 {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func sequence(n int) []float64 {
	s := make([]float64, n)
	for i := range s {
		s[i] = float64(i)
	}
	return s
}

func TestLatencyOfUnsorted(t *testing.T) {
	values := make([]time.Duration, 101)
	for i := range values {
		values[i] = time.Duration(i) * time.Millisecond
	}
	r := rand.New(rand.NewPCG(1, 2))
	r.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
	want := Latency{50 * time.Millisecond, 95 * time.Millisecond, 99 * time.Millisecond, 100 * time.Millisecond}
	if got := NewLatency(values); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMedianLeavesItsInputAlone(t *testing.T) {
	values := []float64{3, 1, 2}
	if got := Median(values); got != 2 {
		t.Errorf("got %v, want 2", got)
	}
	if !slices.Equal(values, []float64{3, 1, 2}) {
		t.Errorf("the input became %v", values)
	}
}

func TestRatios(t *testing.T) {
	// The third has nothing under it, the fourth is not known, the fifth has no partner.
	got := Ratios([]float64{2, 6, 1, math.NaN(), 9}, []float64{1, 2, 0, 1})
	if want := (Spread{2.5, 2, 3}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if none := Ratios(nil, []float64{1}); !math.IsNaN(none.Median) {
		t.Errorf("no rounds: got %v, want NaN", none)
	}
}
