package engine

import (
	"math"
	"testing"
)

// chiSquare fails the test when counts are less likely than about one in a
// million under the expected ones: five standard deviations of its distribution.
func chiSquare(t *testing.T, what string, counts []int, expected []float64) {
	t.Helper()
	var x float64
	free := -1.0
	for i, c := range counts {
		if expected[i] < 5 {
			if expected[i] == 0 && c > 0 {
				t.Errorf("%s: bin %d has %d draws; it is impossible", what, i, c)
			}
			continue // too rare for the approximation
		}
		d := float64(c) - expected[i]
		x += d * d / expected[i]
		free++
	}
	if limit := free + 5*math.Sqrt(2*free); x > limit {
		t.Errorf("%s: chi-square %.0f over %.0f degrees of freedom; at most %.0f", what, x, free, limit)
	}
}

func flat(bins, n int) []float64 {
	e := make([]float64, bins)
	for i := range e {
		e[i] = float64(n) / float64(bins)
	}
	return e
}

func TestDrawIsUniform(t *testing.T) {
	const n, bins = 100_000, 100
	for _, axis := range []struct {
		name string
		draw func(i int) float64
	}{
		{"position", func(i int) float64 { return Draw(1, 0, int32(i), 0) }},
		{"choice", func(i int) float64 { return Draw(1, int32(i), 7, 0) }},
		{"draw", func(i int) float64 { return Draw(1, 0, 7, int32(i)) }},
		{"seed", func(i int) float64 { return Draw(uint64(i), 0, 7, 0) }},
		{"high seed", func(i int) float64 { return Draw(uint64(i)<<40, 0, 7, 0) }},
	} {
		counts := make([]int, bins)
		for i := range n {
			u := axis.draw(i)
			if !(u >= 0 && u < 1) {
				t.Fatalf("%s: draw %d is %v", axis.name, i, u)
			}
			counts[int(u*bins)]++
		}
		chiSquare(t, axis.name, counts, flat(bins, n))
	}
}

func TestNeighbouringDrawsAreIndependent(t *testing.T) {
	const n, bins = 100_000, 10
	for _, pair := range []struct {
		name string
		a, b func(i int) float64
	}{
		{"positions", func(i int) float64 { return Draw(3, 0, int32(i), 0) }, func(i int) float64 { return Draw(3, 0, int32(i+1), 0) }},
		{"choices", func(i int) float64 { return Draw(3, 0, int32(i), 0) }, func(i int) float64 { return Draw(3, 1, int32(i), 0) }},
		{"draws", func(i int) float64 { return Draw(3, 0, int32(i), 0) }, func(i int) float64 { return Draw(3, 0, int32(i), 1) }},
		{"seeds", func(i int) float64 { return Draw(uint64(i), 0, 0, 0) }, func(i int) float64 { return Draw(uint64(i)+1, 0, 0, 0) }},
		{"position and choice", func(i int) float64 { return Draw(3, 1, int32(i), 0) }, func(i int) float64 { return Draw(3, int32(i), 1, 0) }},
	} {
		counts := make([]int, bins*bins)
		for i := range n {
			counts[int(pair.a(i)*bins)*bins+int(pair.b(i)*bins)]++
		}
		chiSquare(t, pair.name, counts, flat(bins*bins, n))
	}
}
