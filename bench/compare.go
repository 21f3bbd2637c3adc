package bench

import (
	"fmt"
	"io"
	"unicode/utf8"
)

// Comparison says how far two subjects gave the same answers to the same requests.
type Comparison struct {
	Of      string       `json:"of"`
	With    string       `json:"with"`
	Answers int          `json:"answers"` // whole on both sides
	Equal   int          `json:"equal"`
	Differ  []Difference `json:"differ,omitempty"`
}

// Difference is an answer that is not the same on both sides.
type Difference struct {
	Round  int `json:"round"`
	Client int `json:"client"`
	Turn   int `json:"turn"`
	Prefix int `json:"prefix"` // characters that the answers begin with in common
	Length int `json:"length"` // characters of the longer one
}

// Compare puts two subjects' answers side by side, round by round.
func Compare(of, with []Result) *Comparison {
	c := &Comparison{}
	type key struct{ client, turn int }
	for round := range min(len(of), len(with)) {
		c.Of, c.With = of[round].Target, with[round].Target
		other := make(map[key]Sample, len(with[round].Samples))
		for _, s := range with[round].Samples {
			other[key{s.Client, s.Turn}] = s
		}
		for _, a := range of[round].Samples {
			b, ok := other[key{a.Client, a.Turn}]
			if !ok || a.Err != "" || b.Err != "" {
				continue
			}
			c.Answers++
			if a.Text == b.Text {
				c.Equal++
				continue
			}
			c.Differ = append(c.Differ, Difference{Round: round, Client: a.Client, Turn: a.Turn, Prefix: commonPrefix(a.Text, b.Text),
				Length: max(utf8.RuneCountInString(a.Text), utf8.RuneCountInString(b.Text))})
		}
	}
	return c
}

// commonPrefix counts the characters that two texts begin with in common.
func commonPrefix(a, b string) int {
	n := 0
	for i, r := range a {
		other, _ := utf8.DecodeRuneInString(b[min(i, len(b)):])
		if i >= len(b) || other != r {
			break
		}
		n++
	}
	return n
}

// Write prints the count, and where the answers part.
func (c *Comparison) Write(w io.Writer) {
	fmt.Fprintf(w, "%d of %d answers of %s are %s's to the last character.\n", c.Equal, c.Answers, c.Of, c.With)
	if len(c.Differ) == 0 {
		return
	}
	prefixes, lengths := make([]float64, len(c.Differ)), make([]float64, len(c.Differ))
	for i, d := range c.Differ {
		prefixes[i], lengths[i] = float64(d.Prefix), float64(d.Length)
	}
	fmt.Fprintf(w, "The others part after %s characters of %s, median (least…most).\n", NewSpread(prefixes), NewSpread(lengths))
}
