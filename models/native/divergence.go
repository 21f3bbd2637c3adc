package native

import (
	"math"
	"slices"

	"llamero/engine"
)

// position is what two models think of one place in a text.
type position struct {
	source, loss float64 // -ln of what each gives the token that comes
	kl           float64
	same         bool // whether both expect the same token most
}

// compare compares a row of logits q with the source's, p.
func compare(p, q []float32, next engine.Token) position {
	maxP, topP := highest(p)
	maxQ, topQ := highest(q)
	var sumP, sumQ, cross float64
	for i := range p {
		dp, dq := float64(p[i])-maxP, float64(q[i])-maxQ
		sumQ += math.Exp(dq)
		if e := math.Exp(dp); e > 0 { // a token that cannot be adds nothing
			sumP += e
			cross += e * (dp - dq)
		}
	}
	// ln of what turns exponentials into probabilities.
	normP, normQ := math.Log(sumP), math.Log(sumQ)
	return position{
		source: normP - (float64(p[next]) - maxP),
		loss:   normQ - (float64(q[next]) - maxQ),
		// Σ P ln(P/Q); rounding can leave an equal pair a hair below 0.
		kl:   max(0, cross/sumP-normP+normQ),
		same: topP == topQ,
	}
}

func highest(row []float32) (most float64, at int) {
	for i, x := range row {
		if x > row[at] {
			at = i
		}
	}
	return float64(row[at]), at
}

// summarise makes figures of positions.
func summarise(all []position) Comparison {
	c := Comparison{Scored: len(all)}
	n := float64(len(all))
	kls := make([]float64, len(all))
	for i, x := range all {
		c.SourceLoss += x.source / n
		c.Loss += x.loss / n
		c.KL += x.kl / n
		if x.same {
			c.SameTop += 1 / n
		}
		kls[i] = x.kl
	}
	mean, squares := c.Loss-c.SourceLoss, 0.0
	for _, x := range all {
		d := x.loss - x.source - mean
		squares += d * d
	}
	if len(all) > 1 {
		c.LossError = math.Sqrt(squares / (n - 1) / n)
	}
	slices.Sort(kls)
	c.KL99 = kls[min(len(kls)-1, len(kls)*99/100)]
	return c
}
