package engine

import (
	"math"
	"math/rand/v2"
	"testing"
)

func randomLogits(r *rand.Rand, n int, scale float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64() * scale)
	}
	return x
}

func naiveArgmax(x []float32) int {
	at := -1
	for i, v := range x {
		if v == v && !math.IsInf(float64(v), -1) && (at < 0 || v > x[at]) {
			at = i
		}
	}
	return max(at, 0)
}

func TestArgmax(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for n := 1; n < 40; n++ {
		for range 200 {
			x := randomLogits(r, n, 1)
			for i := range x {
				switch r.IntN(8) {
				case 0:
					x[i] = nan
				case 1:
					x[i] = -inf
				case 2, 3:
					x[i] = float32(r.IntN(3)) // ties
				}
			}
			if got, want := argmax(x), naiveArgmax(x); got != want {
				t.Fatalf("argmax(%v) = %d, want %d", x, got, want)
			}
		}
	}
}

// ulps is the distance of x from want in units of want's last float32 place.
func ulps(x float32, want float64) float64 {
	w := float32(want)
	unit := float64(math.Nextafter32(w, float32(math.Inf(1)))) - float64(w)
	return math.Abs(float64(x)-want) / unit
}

func TestExpf(t *testing.T) {
	worst, at := 0.0, float32(0)
	for x := float32(0); x > -86.9; x -= 0.00037 {
		if u := ulps(expf(x), math.Exp(float64(x))); u > worst {
			worst, at = u, x
		}
	}
	if worst > 4 {
		t.Errorf("expf(%v) is %.2f units in the last place off; 4 are promised", at, worst)
	}
	if got := expf(0); got != 1 {
		t.Errorf("expf(0) = %v", got)
	}
	for _, x := range []float32{-87, -88, -1e30, float32(math.Inf(-1)), float32(math.NaN())} {
		if got := expf(x); got != 0 {
			t.Errorf("expf(%v) = %v, want 0", x, got)
		}
	}
}

func TestExpAllAndLogSumExp(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, n := range []int{1, 2, 255, 256, 257, 5000, 49152} {
		for _, scale := range []float64{0.1, 3, 30} {
			x := randomLogits(r, n, scale)
			x[r.IntN(n)] = float32(math.Inf(-1))
			x[r.IntN(n)] = 1
			peak := x[argmax(x)]
			var total float64
			for _, v := range x {
				total += math.Exp(float64(v) - float64(peak))
			}
			if got, want := logSumExp(x), float64(peak)+math.Log(total); math.Abs(got-want) > 2e-6 {
				t.Errorf("n %d, scale %v: logSumExp %v, want %v", n, scale, got, want)
			}
			const inv = 0.7
			dst := make([]float32, n)
			var want float64
			for _, v := range x {
				want += math.Exp((float64(v) - float64(peak)) * inv)
			}
			got := expAll(dst, x, peak, inv)
			if math.Abs(got-want) > 1e-5*want {
				t.Errorf("n %d, scale %v: expAll sums to %v, want %v", n, scale, got, want)
			}
			for i, v := range x {
				want := math.Exp((float64(v) - float64(peak)) * inv)
				if math.Abs(float64(dst[i])-want) > 1e-5*want+1e-37 { // the exponent itself is rounded
					t.Fatalf("n %d, scale %v: e^%v is %v, want %v", n, scale, (v-peak)*inv, dst[i], want)
				}
			}
		}
	}
	inf := float32(math.Inf(-1))
	if got := logSumExp([]float32{inf, inf}); !math.IsInf(got, -1) {
		t.Errorf("logSumExp of nothing is %v", got)
	}
}
