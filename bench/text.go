package bench

import (
	"math/rand/v2"
	"strings"
)

// Common English words, one token each in most vocabularies, so that a prompt's
// length in words is close to its length in tokens.
var (
	nouns = strings.Fields(`river harbor market garden engine letter bridge village forest window
		table mountain teacher doctor farmer captain train ship road field island school
		library kitchen machine picture story river summer winter morning evening city
		valley castle tower factory museum theater station airport lake desert ocean`)
	adjectives = strings.Fields(`quiet old bright heavy narrow distant early late careful broken
		golden simple strange famous hidden empty gentle sudden common deep fresh rapid
		steady warm cold green silver wooden local modern ancient friendly`)
	verbs = strings.Fields(`follows carries watches finds reaches covers leaves meets paints
		builds opens closes crosses guards feeds moves remembers describes measures repairs
		visits supports joins passes holds brings`)
	links = strings.Fields(`near behind above below beside against toward across through beyond
		under around inside before after`)
	questions = []string{
		"What should a visitor see first, and why?",
		"Which of these places is the oldest?",
		"Write a short letter about one of them.",
		"Who works there, and what do they do all day?",
		"Explain how the parts belong together.",
		"List the three most important points.",
		"Tell it again as a story for children.",
		"What could go wrong, and how would you prevent it?",
	}
)

// rng gives each (seed, stream) random numbers of its own, so that a request's
// text does not depend on how many others a workload has.
func rng(seed uint64, stream int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(stream)))
}

func pick(r *rand.Rand, from []string) string { return from[r.IntN(len(from))] }

// prose writes exactly n words of grammatical nonsense.
func prose(r *rand.Rand, n int) string {
	words := make([]string, 0, n+10)
	for len(words) < n {
		first := len(words)
		words = append(words, "The", pick(r, adjectives), pick(r, nouns), pick(r, verbs), "the",
			pick(r, adjectives), pick(r, nouns), pick(r, links), "the", pick(r, nouns))
		if len(words) > n {
			words = words[:max(n, first+1)]
		}
		words[len(words)-1] += "."
	}
	return strings.Join(words, " ")
}
