package worker

import (
	"encoding/binary"
	"math"

	"llamero/engine"
)

// What an edit has besides its kind and slot.
const (
	editTo = 1 << iota
	editLen
	editSampling
	editTokens
	editFirst
	editPages
)

// What a row has besides its slot, position and tokens.
const (
	rowSample = 1 << iota
	rowScore
	rowIdle
	rowNext
	rowGuess
	rowDraft
)

// What settings are not zero.
const (
	setTemperature = 1 << iota
	setTopP
	setTopK
	setMinP
	setTypicalP
	setPresence
	setFrequency
	setRepetition
	setBias
	setSeed
	setChoice
	setLogProbs
)

// appendPlan encodes a plan.
func appendPlan(b []byte, p *engine.Plan) []byte {
	b = appendUvarint(b, p.Step)
	b = appendInt(b, p.Expected)
	b = appendUvarint(b, uint64(len(p.Edits)))
	for i := range p.Edits {
		b = appendEdit(b, &p.Edits[i])
	}
	b = appendUvarint(b, uint64(len(p.Passes)))
	for i := range p.Passes {
		pass := &p.Passes[i]
		b = append(b, byte(pass.Kind))
		b = appendUvarint(b, uint64(len(pass.Rows)))
		for j := range pass.Rows {
			b = appendRow(b, &pass.Rows[j])
		}
	}
	return b
}

func appendEdit(b []byte, e *engine.Edit) []byte {
	settings := samplingMask(&e.Sampling)
	mask := byte(0)
	for _, x := range [...]struct {
		set bool
		bit byte
	}{
		{e.To != 0, editTo}, {e.Len != 0, editLen}, {settings != 0, editSampling},
		{len(e.Tokens) > 0, editTokens}, {e.First != 0, editFirst}, {len(e.Pages) > 0, editPages},
	} {
		if x.set {
			mask |= x.bit
		}
	}
	b = append(b, byte(e.Kind), mask)
	b = appendInt(b, int64(e.Slot))
	if mask&editTo != 0 {
		b = appendInt(b, int64(e.To))
	}
	if mask&editLen != 0 {
		b = appendInt(b, int64(e.Len))
	}
	if mask&editSampling != 0 {
		b = appendSampling(b, &e.Sampling, settings)
	}
	if mask&editTokens != 0 {
		b = appendTokens(b, e.Tokens)
	}
	if mask&editFirst != 0 {
		b = appendInt(b, int64(e.First))
	}
	if mask&editPages != 0 {
		b = appendUvarint(b, uint64(len(e.Pages)))
		for _, p := range e.Pages {
			b = appendInt(b, int64(p))
		}
	}
	return b
}

// samplingFloats are the settings that are floats, in the order of their bits; the
// integer between them goes after.
func samplingFloats(s *engine.Sampling) [7]struct {
	bit uint16
	v   *float32
} {
	return [7]struct {
		bit uint16
		v   *float32
	}{
		{setTemperature, &s.Temperature}, {setTopP, &s.TopP}, {setMinP, &s.MinP}, {setTypicalP, &s.TypicalP},
		{setPresence, &s.Presence}, {setFrequency, &s.Frequency}, {setRepetition, &s.Repetition},
	}
}

func samplingMask(s *engine.Sampling) (mask uint16) {
	for _, f := range samplingFloats(s) {
		if math.Float32bits(*f.v) != 0 {
			mask |= f.bit
		}
	}
	if s.TopK != 0 {
		mask |= setTopK
	}
	if len(s.Bias) > 0 {
		mask |= setBias
	}
	if s.Seed != 0 {
		mask |= setSeed
	}
	if s.Choice != 0 {
		mask |= setChoice
	}
	if s.LogProbs != 0 {
		mask |= setLogProbs
	}
	return mask
}

func appendSampling(b []byte, s *engine.Sampling, mask uint16) []byte {
	b = binary.LittleEndian.AppendUint16(b, mask)
	for _, f := range samplingFloats(s) {
		if mask&f.bit != 0 {
			b = appendFloat(b, *f.v)
		}
	}
	if mask&setTopK != 0 {
		b = appendInt(b, int64(s.TopK))
	}
	if mask&setBias != 0 {
		b = appendUvarint(b, uint64(len(s.Bias)))
		for _, x := range s.Bias {
			b = appendFloat(appendToken(b, x.Token), x.Add)
		}
	}
	if mask&setSeed != 0 {
		b = binary.LittleEndian.AppendUint64(b, s.Seed)
	}
	if mask&setChoice != 0 {
		b = appendInt(b, int64(s.Choice))
	}
	if mask&setLogProbs != 0 {
		b = appendInt(b, int64(s.LogProbs))
	}
	return b
}

func appendRow(b []byte, r *engine.Row) []byte {
	mask := byte(0)
	if r.Sample {
		mask |= rowSample
	}
	if r.Score {
		mask |= rowScore
	}
	if r.Idle {
		mask |= rowIdle
	}
	if r.Next != 0 {
		mask |= rowNext
	}
	if len(r.Guess) > 0 {
		mask |= rowGuess
	}
	if r.Draft != 0 {
		mask |= rowDraft
	}
	b = append(b, mask)
	b = appendInt(b, int64(r.Slot))
	b = appendInt(b, int64(r.Pos))
	b = appendTokens(b, r.Tokens)
	if mask&rowNext != 0 {
		b = appendToken(b, r.Next)
	}
	if mask&rowGuess != 0 {
		b = appendTokens(b, r.Guess)
	}
	if mask&rowDraft != 0 {
		b = appendInt(b, int64(r.Draft))
	}
	return b
}
