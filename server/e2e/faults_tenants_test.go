package e2e

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"llamero/bench"
)

// auc is the chance that one of as is greater than one of bs: one half where nobody
// could tell them apart.
func auc(as, bs []time.Duration) float64 {
	wins := 0.0
	for _, a := range as {
		for _, b := range bs {
			switch {
			case a > b:
				wins++
			case a == b:
				wins += 0.5
			}
		}
	}
	return wins / float64(len(as)*len(bs))
}

// TestTenantsByTime: what one API key has asked cannot be told by another from how soon
// its first tokens come.
func TestTenantsByTime(t *testing.T) {
	tries := sized(3, 200)
	// The chance that an AUC of so many tries is farther from one half than this is one
	// in two hundred, where there is nothing to tell.
	near := 2.8 * math.Sqrt(float64(2*tries+1)/12) / float64(tries)
	row := newRow(t, rowTenants, "tenants: the same prompt with different keys")
	g := burdened(t, []string{twoKeys}, slices.Clone(smallCache)...)
	ask(t, g, "sesame", disjoint(t, 1, 100, 1)[0])
	ask(t, g, "barley", disjoint(t, 1, 100, 1)[0])
	r := rand.New(rand.NewPCG(6, 8))
	var asked, fresh, own []time.Duration // times to the first token: of what alice has asked, of what nobody has, of bob's own
	across, within := 0, 0
	for range tries {
		pair := disjoint(t, 2, 200, 1)
		ask(t, g, "sesame", pair[0])
		take := func(i int) {
			got := ask(t, g, "barley", pair[i])
			if got.Cached != 0 {
				across++
			}
			if i == 0 {
				asked = append(asked, ttft(got))
			} else {
				fresh = append(fresh, ttft(got))
			}
		}
		first := r.IntN(2)
		take(first)
		take(1 - first)
		again := ask(t, g, "barley", pair[0])
		if again.Cached == useful(again) {
			within++
		}
		own = append(own, ttft(again))
	}
	if across != 0 || within != tries {
		t.Errorf("%d hits across keys, %d of %d within", across, within, tries)
	}
	same, control := auc(asked, fresh), auc(fresh, own)
	row.figure("%d tries: 0 hits across keys, %d within", tries, within)
	row.figure("AUC of first-token times: %.3f across (0.5 ± %.3f), %.3f within", same, near, control)
	a, f, o := bench.NewLatency(asked), bench.NewLatency(fresh), bench.NewLatency(own)
	row.figure("medians %s ms for what another key has asked, %s ms for what nobody has, %s ms for one's own", inMS(a.P50), inMS(f.P50), inMS(o.P50))
	if !fullSize {
		return
	}
	if math.Abs(same-0.5) > near {
		t.Errorf("what another key has asked can be told: AUC %.3f", same)
	}
	if control < 0.9 {
		t.Errorf("one's own prompts cannot be told (AUC %.3f): the times say nothing", control)
	}
}

func TestAUC(t *testing.T) {
	for _, x := range []struct {
		as, bs []time.Duration
		want   float64
	}{
		{[]time.Duration{3, 4}, []time.Duration{1, 2}, 1},
		{[]time.Duration{1, 2}, []time.Duration{3, 4}, 0},
		{[]time.Duration{1, 2, 3}, []time.Duration{1, 2, 3}, 0.5},
		{[]time.Duration{1, 3}, []time.Duration{2}, 0.5},
	} {
		if got := auc(x.as, x.bs); got != x.want {
			t.Errorf("%v and %v: %v, want %v", x.as, x.bs, got, x.want)
		}
	}
}
