package server

import (
	"fmt"
	"time"

	"llamero/engine"
	"llamero/scheduler"
	"llamero/server/openai"
	"llamero/tokenizer"
)

// generation turns a request's events into answers. Both ways to answer use it: the
// whole document reads choices at the end, a stream takes what has become sendable
// after every pull. It belongs to one goroutine.
type generation struct {
	*job
	stream  Stream
	rec     *Record
	answer  *Answer     // rec's
	gone    func() bool // whether the client has closed
	choices []choice
	scores  []promptScores // by prompt; empty unless echoed with logprobs
	left    int            // choices without a finish
	usage   openai.Usage
	admit   []bool         // by prompt: its first choice has a slot
	at      scheduler.Tick // of the event that is being applied

	// err ends the request; errGone for a client that is not there to read it.
	err error
}

// choice is one answer.
type choice struct {
	index    int
	dec      *tokenizer.Decoder
	text     []byte          // released, and not taken yet
	all      []byte          // with content in records: text from the beginning
	toks     []openai.Scored // with logprobs: not taken yet; text has those of the first released ones
	released int
	finish   string // "" until the answer has ended
	closed   bool   // streams: the finish is out
	waits    bool   // for its echoed prompt's scores, which come before all else
}

// promptScores collects one prompt's log-probabilities.
type promptScores struct {
	got    []engine.Sampled
	need   int
	choice int // the choice they come with, -1 before the first
}

var errGone = fmt.Errorf("the client has closed its connection")

func newGeneration(j *job, stream Stream, rec *Record, gone func() bool) *generation {
	n := j.params.N
	g := &generation{job: j, stream: stream, rec: rec, answer: rec.Answer, gone: gone,
		choices: make([]choice, n*len(j.prompts)), admit: make([]bool, len(j.prompts))}
	g.left = len(g.choices)
	g.answer.Finish = make([]string, len(g.choices))
	g.usage.Guesses = j.params.Guesses
	for i, p := range j.prompts {
		g.usage.Prompt += len(p.tokens)
		for k := range n {
			c := &g.choices[i*n+k]
			c.index = i*n + k
			c.dec = tokenizer.NewDecoder(g.head.Vocab, tokenizer.DecoderOptions{Stop: j.params.Stop})
			if j.echo {
				c.text = append(c.text, p.text...)
				c.all = append(c.all, p.text...)
				c.waits = j.params.LogProbs
			}
			if j.params.NoTokens && !j.params.LogProbs {
				g.end(c, "length")
			}
		}
	}
	if j.echo && j.params.LogProbs {
		g.scores = make([]promptScores, len(j.prompts))
		for i, p := range j.prompts {
			g.scores[i] = promptScores{need: len(p.tokens) - 1, choice: -1}
			g.scored(i) // a prompt of one token has none to wait for
		}
	}
	return g
}

// apply takes one pull's events.
func (g *generation) apply(events []scheduler.Event) {
	for i := range events {
		if g.err != nil {
			return
		}
		e := &events[i]
		if e.Choice < 0 || e.Choice >= len(g.choices) {
			g.fail(fmt.Errorf("an event for choice %d of %d", e.Choice, len(g.choices)))
			return
		}
		c := &g.choices[e.Choice]
		g.at = e.At
		switch e.Kind {
		case scheduler.EventAdmitted:
			if p := e.Choice / g.params.N; !g.admit[p] {
				g.admit[p] = true
				g.usage.Cached += e.Cached
				g.found(e, p)
			}
			if g.answer.Admitted.IsZero() {
				g.answer.Admitted = g.model.Loop.Time(e.At)
			}
		case scheduler.EventLookup:
			g.answer.Lookups = append(g.answer.Lookups, Lookup{Tier: "remote", Began: g.model.Loop.Time(e.Lookup.Began),
				Ended: g.model.Loop.Time(e.At), Asked: e.Lookup.Asked, Found: e.Lookup.Found})
		case scheduler.EventTokens:
			g.usage.Guessed += e.Guessed
			g.usage.Accepted += e.Accepted
			g.score(e)
			g.tokens(c, e)
		case scheduler.EventDone:
			g.done(c, e)
		}
	}
}

// found notes what of a prompt was in host memory when it got its slot.
func (g *generation) found(e *scheduler.Event, prompt int) {
	if g.model.Loop.Limits().Pages == 0 {
		return
	}
	at := g.model.Loop.Time(e.At)
	g.answer.Lookups = append(g.answer.Lookups, Lookup{Tier: "host", Began: at, Ended: at,
		Asked: len(g.prompts[prompt].tokens), Found: e.Cached})
}

func (g *generation) tokens(c *choice, e *scheduler.Event) {
	if len(e.Tokens) > 0 && g.rec.TTFT == 0 {
		g.rec.TTFT = time.Since(g.rec.Start)
		g.answer.First = g.model.Loop.Time(e.At)
	}
	before := len(c.text)
	defer func() { c.keep(before, g.content) }()
	for i := range e.Tokens {
		if c.finish != "" { // a stop string was found, and the cancel is on its way
			return
		}
		g.usage.Completion++
		if g.params.LogProbs {
			c.toks = append(c.toks, openai.Scored{Sampled: e.Tokens[i]})
		}
		var n int
		c.text, n = c.dec.Append(c.text, e.Tokens[i].Token)
		c.released += n
		if c.dec.Stop() != "" {
			if g.params.LogProbs {
				c.toks = c.toks[:min(c.released, len(c.toks))]
			}
			g.end(c, "stop")
			g.stream.CancelChoice(e.Choice)
		}
	}
}

func (g *generation) done(c *choice, e *scheduler.Event) {
	if c.finish != "" {
		return
	}
	switch e.Finish {
	case scheduler.FinishStop, scheduler.FinishLength:
		var n int
		before := len(c.text)
		c.text, n = c.dec.Flush(c.text)
		c.keep(before, g.content)
		c.released += n
		finish := e.Finish.String()
		if c.dec.Stop() != "" {
			finish = "stop"
			if g.params.LogProbs {
				c.toks = c.toks[:min(c.released, len(c.toks))]
			}
		}
		g.end(c, finish)
	case scheduler.FinishCancel:
		if g.gone() {
			g.fail(errGone)
		} else { // we did not ask for it: what is left is being cut off
			g.fail(errDraining())
		}
	case scheduler.FinishExpired:
		g.fail(errExpired())
	default:
		err := e.Err
		if err == nil {
			err = fmt.Errorf("an answer ended with %q", e.Finish)
		}
		g.fail(err)
	}
}

func (g *generation) end(c *choice, finish string) {
	c.finish = finish
	c.waits = false
	g.left--
	g.answer.Finish[c.index] = finish
	if g.left == 0 && g.at != 0 {
		g.answer.Last = g.model.Loop.Time(g.at)
	}
}

// keep remembers the text that has been released since it had so many bytes.
func (c *choice) keep(before int, content bool) {
	if content {
		c.all = append(c.all, c.text[before:]...)
	}
}

func (g *generation) fail(err error) {
	if g.err == nil {
		g.err = err
		g.stream.Cancel()
	}
}

// score takes a prompt's log-probabilities. They come once a prompt, with whichever
// choice ran the prefill.
func (g *generation) score(e *scheduler.Event) {
	if len(e.Scores) == 0 || g.scores == nil {
		return
	}
	p := e.Choice / g.params.N
	s := &g.scores[p]
	if s.choice < 0 {
		s.choice = e.Choice
	}
	if s.choice != e.Choice || len(s.got) >= s.need {
		return
	}
	s.got = append(s.got, e.Scores[:min(len(e.Scores), s.need-len(s.got))]...)
	g.scored(p)
}

// scored puts an echoed prompt's tokens before the answers' own, once all are there.
func (g *generation) scored(p int) {
	s := &g.scores[p]
	if len(s.got) < s.need {
		return
	}
	prompt := g.prompts[p].tokens
	toks := make([]openai.Scored, len(prompt))
	for i, t := range prompt {
		toks[i] = openai.Scored{Sampled: engine.Sampled{Token: t}, NoScore: i == 0, Spelled: i > 0 || t != g.head.Vocab.BOS()}
		if i > 0 {
			toks[i].LogProb, toks[i].Top = s.got[i-1].LogProb, s.got[i-1].Top
		}
	}
	for k := range g.params.N {
		c := &g.choices[p*g.params.N+k]
		c.toks = append(toks[:len(toks):len(toks)], c.toks...)
		c.released += len(toks)
		c.waits = false
	}
}

// answers are the whole choices, once left is 0.
func (g *generation) answers() []openai.Choice {
	out := make([]openai.Choice, len(g.choices))
	for i := range g.choices {
		c := &g.choices[i]
		out[i] = openai.Choice{Text: c.text, Tokens: c.toks, Finish: c.finish}
	}
	return out
}

// account fills the record's counts.
func (g *generation) account() {
	g.rec.PromptTokens, g.rec.CachedTokens, g.rec.OutputTokens = g.usage.Prompt, g.usage.Cached, g.usage.Completion
	if g.content {
		for i := range g.choices {
			g.answer.Texts = append(g.answer.Texts, string(g.choices[i].all))
		}
	}
}
