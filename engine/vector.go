package engine

import "math"

// argmax returns the index of the largest value, the first of equals. NaN never wins.
func argmax(x []float32) int {
	best, at := float32(math.Inf(-1)), 0
	i := 0
	// Four at a time: one comparison rules out most groups.
	for ; i+4 <= len(x); i += 4 {
		a, b, c, d := x[i], x[i+1], x[i+2], x[i+3]
		if a > best || b > best || c > best || d > best {
			for j := i; j < i+4; j++ {
				if x[j] > best {
					best, at = x[j], j
				}
			}
		}
	}
	for ; i < len(x); i++ {
		if x[i] > best {
			best, at = x[i], i
		}
	}
	return at
}

// expf is e^x for x ≤ 0, within 4 units in the last place; 0 below -87. The
// reduction is Cody and Waite's, the polynomial the Taylor series to x^6.
func expf(x float32) float32 {
	if !(x > -87) {
		return 0
	}
	n := float32(int32(x*1.44269504 - 0.5)) // round to nearest for x ≤ 0
	r := x - n*0.693359375 + n*2.12194440e-4
	y := 1 + r*(1+r*(0.5+r*(1.0/6+r*(1.0/24+r*(1.0/120+r*(1.0/720))))))
	return y * math.Float32frombits(uint32(int32(n)+127)<<23)
}

// expAll sets dst[i] = e^((x[i]-peak)·inv) and returns the sum.
func expAll(dst, x []float32, peak, inv float32) float64 {
	dst = dst[:len(x)]
	var total float64
	for start := 0; start < len(x); start += 256 {
		end := min(start+256, len(x))
		var sum float32 // a short float32 sum keeps its precision and is twice as fast
		for i := start; i < end; i++ {
			e := expf((x[i] - peak) * inv)
			dst[i] = e
			sum += e
		}
		total += float64(sum)
	}
	return total
}

// logSumExp is ln Σ e^x.
func logSumExp(x []float32) float64 {
	peak := x[argmax(x)]
	if math.IsInf(float64(peak), 0) {
		return float64(peak)
	}
	var total float64
	for start := 0; start < len(x); start += 256 {
		var sum float32
		for _, v := range x[start:min(start+256, len(x))] {
			sum += expf(v - peak)
		}
		total += float64(sum)
	}
	return float64(peak) + math.Log(total)
}
