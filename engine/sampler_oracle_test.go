package engine

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// oracle is the truncation of Sampling's doc comment in float64, without any of
// the sampler's short cuts: the tokens that may be drawn. slack widens (or narrows,
// if negative) every threshold by that part. It also says whether typical_p's order
// of the tokens at its border is clear in float32.
func oracle(logits []float32, p *Sampling, slack float64) (kept map[Token]bool, clear bool) {
	type entry struct {
		token       Token
		logit, prob float64
	}
	peak := math.Inf(-1)
	for _, x := range logits {
		peak = max(peak, float64(x))
	}
	var all []entry
	for i, x := range logits {
		d := (float64(x) - peak) / float64(p.Temperature)
		if d > -87 { // below, float32 has nothing left
			all = append(all, entry{Token(i), d, math.Exp(d)})
		}
	}
	byProb := func(a, b entry) int {
		return cmp.Or(cmp.Compare(b.logit, a.logit), cmp.Compare(a.token, b.token))
	}
	total := func() (sum float64) {
		for _, e := range all {
			sum += e.prob
		}
		return sum
	}
	upTo := func(part float64) {
		want := part * (1 + slack) * total()
		var sum float64
		for i, e := range all {
			if sum += e.prob; sum >= want {
				all = all[:i+1]
				return
			}
		}
	}
	clear = true
	slices.SortFunc(all, byProb)
	if p.TopK > 0 {
		all = all[:min(int(p.TopK), len(all))]
	}
	if p.TypicalP > 0 && p.TypicalP < 1 {
		sum := total()
		var entropy float64
		for _, e := range all {
			entropy -= e.prob / sum * math.Log(e.prob/sum)
		}
		key := func(e entry) float64 { return math.Abs(-math.Log(e.prob/sum) - entropy) }
		slices.SortFunc(all, func(a, b entry) int { return cmp.Or(cmp.Compare(key(a), key(b)), byProb(a, b)) })
		before := all
		upTo(float64(p.TypicalP))
		if n := len(all); n < len(before) {
			clear = key(before[n])-key(before[n-1]) > 1e-5
		}
		slices.SortFunc(all, byProb)
	}
	if p.TopP > 0 && p.TopP < 1 {
		upTo(float64(p.TopP))
	}
	if p.MinP > 0 {
		floor := all[0].prob * float64(p.MinP) * (1 - slack)
		all = slices.DeleteFunc(all, func(e entry) bool { return e.prob < floor })
	}
	kept = make(map[Token]bool)
	for _, e := range all {
		kept[e.token] = true
	}
	return kept, clear
}

// TestTruncationsAgainstOracle: what the sampler keeps lies between what the
// oracle keeps with thresholds a little narrower and a little wider.
func TestTruncationsAgainstOracle(t *testing.T) {
	const slack = 2e-5
	r := rand.New(rand.NewPCG(7, 7))
	pick := func(of ...float32) float32 { return of[r.IntN(len(of))] }
	kinds := map[string]func(p *Sampling){
		"top_k":     func(p *Sampling) { p.TopK = 1 + int32(r.IntN(60)) },
		"top_p":     func(p *Sampling) { p.TopP = pick(0.01, 0.3, 0.5, 0.9, 0.95, 0.999) },
		"min_p":     func(p *Sampling) { p.MinP = pick(0.001, 0.05, 0.3, 0.9, 1) },
		"typical_p": func(p *Sampling) { p.TypicalP = pick(0.1, 0.5, 0.9, 0.99) },
	}
	combos := [][]string{
		{"top_k"}, {"top_p"}, {"min_p"}, {"typical_p"}, {"top_k", "top_p"}, {"top_p", "min_p"}, {"top_k", "min_p"},
		{"top_k", "typical_p"}, {"typical_p", "top_p"}, {"typical_p", "min_p"}, {"top_k", "typical_p", "top_p", "min_p"},
	}
	for _, combo := range combos {
		t.Run(fmt.Sprint(combo), func(t *testing.T) {
			compared := 0
			for trial := range 300 {
				vocab := []int{2, 5, 64, 300, 3000}[r.IntN(5)]
				logits := randomLogits(r, vocab, []float64{0.3, 2, 8}[r.IntN(3)])
				if r.IntN(3) == 0 { // bans
					for range vocab / 2 {
						logits[r.IntN(vocab)] = negInf
					}
					logits[r.IntN(vocab)] = 1
				}
				if r.IntN(4) == 0 && !slices.Contains(combo, "typical_p") { // ties
					for i := range logits {
						logits[i] = float32(math.Round(float64(logits[i])))
					}
				}
				p := Sampling{Temperature: pick(0.2, 0.7, 1, 1.8)}
				for _, kind := range combo {
					kinds[kind](&p)
				}
				if int(p.TopK) >= vocab && p.TopP == 0 && p.MinP == 0 && p.TypicalP == 0 {
					continue // nothing is cut
				}
				s := NewSampler(vocab)
				s.draw(logits, &p, 0.5)
				got := make(map[Token]bool)
				for _, c := range s.cand {
					got[c.token] = true
				}
				least, clear := oracle(logits, &p, -slack)
				most, _ := oracle(logits, &p, slack)
				if !clear || p.TypicalP > 0 && !maps.Equal(least, most) {
					continue // what comes after typical_p depends on its border
				}
				compared++
				for x := range least {
					if !got[x] {
						t.Fatalf("trial %d, %d tokens, %+v: token %d was cut; %d kept, the oracle keeps %d", trial, vocab, p, x, len(got), len(least))
					}
				}
				for x := range got {
					if !most[x] {
						t.Fatalf("trial %d, %d tokens, %+v: token %d was kept; %d kept, the oracle keeps %d", trial, vocab, p, x, len(got), len(most))
					}
				}
			}
			if compared < 150 {
				t.Errorf("only %d trials could be compared", compared)
			}
		})
	}
}
