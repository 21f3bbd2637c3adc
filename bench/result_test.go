package bench

import (
	"slices"
	"testing"
	"time"
)

func at(milliseconds ...int) []time.Duration {
	d := make([]time.Duration, len(milliseconds))
	for i, m := range milliseconds {
		d[i] = time.Duration(m) * time.Millisecond
	}
	return d
}

func TestSummaryLeavesFailuresOut(t *testing.T) {
	r := Result{Wall: 2 * time.Second, Samples: []Sample{
		{Start: at(5)[0], Chunks: at(15, 25, 45), Tokens: 3},
		{Chunks: at(900, 1900), Tokens: 2, Err: "cut"},
	}}
	s := r.Summary()
	if s.Errors != 1 || s.Tokens != 3 || s.TokensPerSecond != 1.5 {
		t.Errorf("got %+v", s)
	}
	if s.TTFT.Max != 10*time.Millisecond || s.ITL.P50 != 15*time.Millisecond || s.ITL.Max != 20*time.Millisecond {
		t.Errorf("latencies: got %+v", s)
	}
}

func TestSteady(t *testing.T) {
	a := Sample{Chunks: at(0, 10, 20, 30, 40, 50)}
	b := Sample{Chunks: at(15, 25, 35, 45, 60)}
	tests := []struct {
		name    string
		samples []Sample
		skip    int
		want    []time.Duration
	}{
		{"none", nil, 0, nil},
		{"one alone", []Sample{a}, 0, at(10, 10, 10, 10, 10)},
		// Both decode from 15 to 50: of a 20…50, of b 15…45.
		{"the part in common", []Sample{a, b}, 0, at(10, 10, 10, 10, 10, 10)},
		// The third chunks are there by 35.
		{"later", []Sample{a, b}, 2, at(10, 10)},
		{"too few chunks", []Sample{a, b}, 5, nil},
		{"one failed", []Sample{a, {Chunks: b.Chunks, Err: "cut"}}, 0, nil},
		{"no time in common", []Sample{{Chunks: at(0, 5)}, {Chunks: at(10, 20)}}, 0, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := Steady(test.samples, test.skip); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestChunksBy(t *testing.T) {
	s := Sample{Chunks: at(10, 20, 30)}
	for ms, want := range map[int]int{0: 0, 9: 0, 10: 1, 19: 1, 20: 2, 99: 3} {
		if got := s.ChunksBy(at(ms)[0]); got != want {
			t.Errorf("by %d ms: got %d chunks, want %d", ms, got, want)
		}
	}
}
