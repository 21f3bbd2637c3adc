package openai

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"llamero/engine"
)

// Params are the settings that chat and text completions share. Every value is
// in range.
type Params struct {
	// Sampling is complete but for Seed, Choice and LogProbs.
	Sampling engine.Sampling
	Seed     *uint64 // nil: the server draws one
	// MaxTokens bounds each answer; 0 says nothing. A text completion with Echo may
	// ask for none: then NoTokens is set.
	MaxTokens int
	NoTokens  bool
	N         int // at least 1
	Stop      []string
	// LogProbs asks for the log-probability of each token, TopLogProbs for that
	// many of the most probable ones beside it.
	LogProbs    bool
	TopLogProbs int

	Stream       bool
	IncludeUsage bool
	IgnoreEOS    bool
	Guesses      bool // tell in usage what was guessed ahead
	Priority     int
	User         string
}

// EngineLogProbs is Sampling.LogProbs for p: the token's own and its alternatives.
func (p *Params) EngineLogProbs() int32 {
	if !p.LogProbs {
		return 0
	}
	return int32(p.TopLogProbs) + 1
}

const (
	maxName     = 256 // bytes of a model's, user's or participant's name
	maxPriority = 1000
	greedyBelow = 1e-5 // logits divided by less than this overflow to the arg max anyway
)

// params reads what both endpoints have, logprobs aside: they differ there.
func (f fields) params(lim Limits) Params {
	p := Params{N: 1}
	s := &p.Sampling
	s.Temperature = 1
	if v, ok := f.float("temperature", 0, 2); ok {
		s.Temperature = float32(v)
		if v < greedyBelow {
			s.Temperature = 0
		}
	}
	if v, ok := f.float("top_p", 0, 1); ok {
		// 0 is OpenAI's way to ask for the most probable token; the engine's 0 is off.
		s.TopP = max(float32(v), math.SmallestNonzeroFloat32)
	}
	if v, ok := f.integer("top_k", -1, math.MaxInt32); ok {
		s.TopK = int32(max(v, 0)) // -1 is vLLM's way to say off
	}
	if v, ok := f.float("min_p", 0, 1); ok {
		s.MinP = float32(v)
	}
	if v, ok := f.float("typical_p", 0, 1); ok {
		s.TypicalP = max(float32(v), math.SmallestNonzeroFloat32)
	}
	if v, ok := f.float("presence_penalty", -2, 2); ok {
		s.Presence = float32(v)
	}
	if v, ok := f.float("frequency_penalty", -2, 2); ok {
		s.Frequency = float32(v)
	}
	if v, ok := f.float("repetition_penalty", 0.01, 10); ok {
		s.Repetition = float32(v)
	}
	s.Bias = f.bias(lim)
	if v, ok := f.integer("seed", math.MinInt64, math.MaxInt64); ok {
		u := uint64(v)
		p.Seed = &u
	}
	if v, ok := f.integer("n", 1, int64(lim.Choices)); ok {
		p.N = int(v)
	}
	p.Stop = f.stop(lim)
	p.Stream, _ = f.boolean("stream")
	if so, ok := f.object("stream_options"); ok {
		if !p.Stream {
			f.fail(Invalid("stream_options", "stream_options is only allowed when stream is true"))
		}
		p.IncludeUsage, _ = so.boolean("include_usage")
	}
	p.IgnoreEOS, _ = f.boolean("ignore_eos")
	p.Guesses, _ = f.boolean("include_speculation")
	if v, ok := f.integer("priority", -maxPriority, maxPriority); ok {
		p.Priority = int(v)
	}
	p.User, _ = f.str("user", maxName)
	return p
}

// stop reads a string or an array of strings; the engine's sampler never sees them.
func (f fields) stop(lim Limits) []string {
	raw := f.get("stop")
	if raw == nil {
		return nil
	}
	elems := []json.RawMessage{raw}
	switch kindOf(raw) {
	case "a string":
	case "an array":
		var ok bool
		if elems, ok = f.array("stop", lim.Stop); !ok {
			return nil
		}
	default:
		f.wrong("stop", "a string or an array of strings", raw)
		return nil
	}
	var stops []string
	for i, e := range elems {
		name := "stop"
		if raw[0] == '[' {
			name = fmt.Sprintf("stop[%d]", i)
		}
		s, ok := unquote(e)
		switch {
		case !ok:
			f.fail(Invalid("stop", "%s must be a string; got %s", name, kindOf(e)))
		case s == "":
			f.fail(Invalid("stop", "%s is empty; a stop string has at least one character", name))
		case len(s) > lim.StopLen:
			f.fail(Invalid("stop", "%s is %d bytes long; at most %d are taken", name, len(s), lim.StopLen))
		default:
			stops = append(stops, s)
		}
	}
	return stops
}

// bias reads {"token id": addend}. Whether the ids exist is the caller's to check.
func (f fields) bias(lim Limits) []engine.Bias {
	b, ok := f.object("logit_bias")
	if !ok {
		return nil
	}
	if len(b.members) > lim.Bias {
		f.fail(Invalid("logit_bias", "logit_bias has %d entries; at most %d are taken", len(b.members), lim.Bias))
		return nil
	}
	out := make([]engine.Bias, 0, len(b.members))
	for key := range b.members {
		id, err := strconv.ParseInt(key, 10, 32)
		if err != nil || id < 0 || strconv.FormatInt(id, 10) != key { // one spelling, so no id comes twice
			f.fail(Invalid("logit_bias", "logit_bias: %q is not a token id", clip(key, 32)))
			return nil
		}
		if v, ok := b.float(key, -100, 100); ok {
			out = append(out, engine.Bias{Token: engine.Token(id), Add: float32(v)})
		}
	}
	// A map's order is random, and plans are compared byte for byte.
	sortBias(out)
	return out
}

// maxTokens reads the bound of an answer; the newer name, which comes first, wins.
func (f fields) maxTokens(p *Params, least int64, names ...string) {
	given := false
	for _, name := range names {
		if v, ok := f.integer(name, least, math.MaxInt32); ok && !given {
			given = true
			p.MaxTokens, p.NoTokens = int(v), v == 0
		}
	}
}
