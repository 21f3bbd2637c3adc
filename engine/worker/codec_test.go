//go:build unix

package worker

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"llamero/engine"
	"llamero/tokenizer"
)

// source makes values from a fuzzer's bytes, or from random ones.
type source struct{ *rand.Rand }

func (s source) int32() int32 {
	switch s.IntN(4) {
	case 0:
		return 0
	case 1:
		return int32(s.IntN(300)) - 1
	}
	return int32(s.Uint32())
}

func (s source) float() float32 { return []float32{0, 1, -0.5, float32(s.NormFloat64())}[s.IntN(4)] }

func list[T any](s source, most int, one func() T) (out []T) {
	for range s.IntN(most + 1) {
		out = append(out, one())
	}
	return out
}

func (s source) token() engine.Token { return engine.Token(s.int32()) }

func (s source) sampling() engine.Sampling {
	return engine.Sampling{
		Temperature: s.float(), TopP: s.float(), TopK: s.int32(), MinP: s.float(), TypicalP: s.float(), Presence: s.float(),
		Frequency: s.float(), Repetition: s.float(), Seed: s.Uint64() >> s.IntN(64), Choice: s.int32(), LogProbs: s.int32(),
		Bias: list(s, 3, func() engine.Bias { return engine.Bias{Token: s.token(), Add: s.float()} }),
	}
}

func (s source) plan() engine.Plan {
	return engine.Plan{
		Step: s.Uint64() >> s.IntN(64), Expected: int64(s.Uint64()) >> s.IntN(64),
		Edits: list(s, 4, func() engine.Edit {
			e := engine.Edit{Kind: engine.EditKind(s.IntN(256)), Slot: s.int32(), To: s.int32(), Len: s.int32(), First: s.int32(),
				Tokens: list(s, 5, s.token), Pages: list(s, 5, s.int32)}
			if s.IntN(2) == 0 {
				e.Sampling = s.sampling()
			}
			return e
		}),
		Passes: list(s, 3, func() engine.Pass {
			return engine.Pass{Kind: engine.PassKind(s.IntN(256)), Rows: list(s, 5, func() engine.Row {
				return engine.Row{Slot: s.int32(), Pos: s.int32(), Tokens: list(s, 5, s.token), Sample: s.IntN(2) == 0,
					Score: s.IntN(2) == 0, Next: s.token(), Idle: s.IntN(2) == 0, Guess: list(s, 3, s.token), Draft: s.int32()}
			})}
		}),
	}
}

func (s source) sampled() engine.Sampled {
	return engine.Sampled{Token: s.token(), LogProb: s.float(),
		Top: list(s, 3, func() engine.TopProb { return engine.TopProb{Token: s.token(), LogProb: s.float()} })}
}

func (s source) output() engine.Output {
	return engine.Output{
		Step: s.Uint64() >> s.IntN(64), Pass: int(s.int32()), Nanos: int64(s.Uint64()), EditNanos: int64(s.Uint64()) >> s.IntN(64),
		DraftNanos: int64(s.Uint64()) >> s.IntN(64),
		Rows: list(s, 5, func() engine.RowOutput {
			return engine.RowOutput{Slot: s.int32(), Sampled: list(s, 3, s.sampled), Scores: list(s, 3, s.sampled),
				Drafted: list(s, 3, s.token), Read: s.int32()}
		}),
	}
}

// allocated is the memory that a call takes, in bytes.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// amplified is how much memory so many bytes may take: a few of them stand for an edit.
func amplified(n int) uint64 { return 1<<17 + 400*uint64(n) }

// roundTrips holds a codec against the values that a seed makes.
func roundTrips[T any](t *testing.T, what string, x T, encode func([]byte, *T) []byte, decode func([]byte) (T, error)) {
	t.Helper()
	b := encode(nil, &x)
	got, err := decode(b)
	if err != nil || !reflect.DeepEqual(got, x) {
		t.Fatalf("%s:\n got %+v (%v)\nwant %+v", what, got, err, x)
	}
	for i := range b { // what is cut off is not whole
		if _, err := decode(b[:i]); err == nil {
			t.Fatalf("%s: %d of %d bytes are taken for it", what, i, len(b))
		}
	}
	if _, err := decode(append(b, 0)); err == nil {
		t.Fatalf("%s: a byte more is taken for it", what)
	}
}

func decodePlan(b []byte) (engine.Plan, error) {
	p, err := new(planDecoder).decode(b)
	return *p, err
}

func FuzzRoundTrip(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		s := source{rand.New(rand.NewPCG(seed, 1))}
		roundTrips(t, "plan", s.plan(), appendPlan, decodePlan)
		roundTrips(t, "output", s.output(), appendOutput, decodeOutput)
		roundTrips(t, "saved", saved{last: s.IntN(2) == 0, pages: list(s, 5, func() savedPage {
			return savedPage{page: s.int32(), slot: s.int32(), sum: s.Uint32()}
		})}, appendSaved, decodeSaved)
	})
}

// FuzzDecode: arbitrary bytes give an error or a value that is encoded as it was read,
// in memory of their own size.
func FuzzDecode(f *testing.F) {
	for seed := range uint64(10) {
		s := source{rand.New(rand.NewPCG(seed, 2))}
		p, o := s.plan(), s.output()
		f.Add(appendPlan(nil, &p))
		f.Add(appendOutput(nil, &o))
	}
	f.Add(appendSaved(nil, &saved{pages: []savedPage{{1, 2, 3}}}))
	f.Add(appendVocab(nil, tokenizer.NewVocab([]string{"a", "bc"}, []tokenizer.Attr{0, tokenizer.AttrEOG}, tokenizer.None, 1)))
	f.Add(appendAnswer(nil, 7, answer{tokens: []engine.Token{1, 2}}))
	f.Add(appendAnswer(nil, 7, answer{err: engine.ErrPlan}))
	f.Add([]byte{1, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var decoder planDecoder
		if used := allocated(func() {
			if p, err := decoder.decode(b); err == nil {
				first := appendPlan(nil, p)
				again, err := new(planDecoder).decode(first)
				if err != nil || !bytes.Equal(appendPlan(nil, again), first) {
					t.Errorf("plan %+v came back as %+v (%v)", p, again, err)
				}
			}
			if o, err := decodeOutput(b); err == nil {
				first := appendOutput(nil, &o)
				again, err := decodeOutput(first)
				if err != nil || !bytes.Equal(appendOutput(nil, &again), first) {
					t.Errorf("output %+v came back as %+v (%v)", o, again, err)
				}
			}
			_, _ = decodeSaved(b)
			_, _ = decodeResult(b)
			_, _, _ = decodeAnswer(b)
			_, _ = decodeRequest(b)
			if v, err := decodeVocab(b); err == nil {
				first := appendVocab(nil, v)
				again, err := decodeVocab(first)
				if err != nil || !bytes.Equal(appendVocab(nil, again), first) {
					t.Errorf("a vocabulary of %d tokens did not come back (%v)", v.Len(), err)
				}
			}
		}); used > amplified(len(b)) {
			t.Errorf("%d bytes take %d", len(b), used)
		}
	})
}

// A plan's memory is the next plan's, but a slot's bias is kept by the engine.
func TestPlanDecoderKeepsBias(t *testing.T) {
	var d planDecoder
	plan := func(token engine.Token) []byte {
		return appendPlan(nil, &engine.Plan{Edits: []engine.Edit{{Kind: engine.EditOpen, Sampling: engine.Sampling{Bias: []engine.Bias{{Token: token, Add: 1}}}}}})
	}
	p, err := d.decode(plan(5))
	if err != nil {
		t.Fatal(err)
	}
	bias := p.Edits[0].Sampling.Bias
	if _, err := d.decode(plan(6)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(bias, []engine.Bias{{Token: 5, Add: 1}}) {
		t.Errorf("the next plan's bias is the first one's: %v", bias)
	}
}

// The parts of an output do not run into one another.
func TestOutputPartsAreApart(t *testing.T) {
	o := engine.Output{Rows: []engine.RowOutput{{Sampled: []engine.Sampled{{Token: 1}}}, {Slot: 1, Sampled: []engine.Sampled{{Token: 2}}}}}
	got, err := decodeOutput(appendOutput(nil, &o))
	if err != nil {
		t.Fatal(err)
	}
	_ = append(got.Rows[0].Sampled, engine.Sampled{Token: 9})
	if got.Rows[1].Sampled[0].Token != 2 {
		t.Error("what was appended to a row is in the next one")
	}
}

func TestFrames(t *testing.T) {
	var wire bytes.Buffer
	w := newFrameWriter(&wire)
	w.end(append(w.begin(kindOutput), "held"...))
	w.hold()
	if wire.Len() > 0 {
		t.Error("a frame that was held back has left")
	}
	large := bytes.Repeat([]byte("x"), 3*readStep+5)
	for _, payload := range [][]byte{nil, []byte("a"), large} {
		if err := w.put(kindDone, payload...); err != nil {
			t.Fatal(err)
		}
	}
	whole := slices.Clone(wire.Bytes())
	r := newFrameReader(&wire)
	for i, want := range []struct {
		kind    kind
		payload []byte
	}{{kindOutput, []byte("held")}, {kindDone, nil}, {kindDone, []byte("a")}, {kindDone, large}} {
		k, b, err := r.next()
		if err != nil || k != want.kind || !bytes.Equal(b, want.payload) {
			t.Fatalf("frame %d: kind %d, %d bytes, %v", i, k, len(b), err)
		}
	}
	if _, _, err := r.next(); err != io.EOF {
		t.Errorf("the end: %v", err)
	}
	cut := newFrameReader(bytes.NewReader(whole[:len(whole)-1]))
	var err error
	for err == nil {
		_, _, err = cut.next()
	}
	if err == io.EOF {
		t.Error("a frame that was cut off is taken for the end")
	}
	// A length that nothing follows takes no memory.
	lie := binary.LittleEndian.AppendUint32(nil, maxFrame)
	if used := allocated(func() { _, _, err = newFrameReader(bytes.NewReader(append(lie, byte(kindDone)))).next() }); err == nil || used > 2*readStep {
		t.Errorf("a lie takes %d bytes (%v)", used, err)
	}
	if _, _, err := newFrameReader(bytes.NewReader(binary.LittleEndian.AppendUint32(nil, math.MaxUint32))).next(); err == nil {
		t.Error("a frame of 4 GiB")
	}
}

// A decode pass of 32 rows, as most steps are.
func decodeStep() (engine.Plan, engine.Output) {
	p := engine.Plan{Step: 1234567, Expected: 38e6, Passes: []engine.Pass{{Kind: engine.PassDecode}}}
	o := engine.Output{Step: p.Step, Nanos: 38e6}
	for i := range int32(32) {
		p.Passes[0].Rows = append(p.Passes[0].Rows, engine.Row{Slot: i, Pos: 1000 + i, Tokens: []engine.Token{31000 + engine.Token(i)}, Sample: true})
		o.Rows = append(o.Rows, engine.RowOutput{Slot: i, Sampled: []engine.Sampled{{Token: 32000 + engine.Token(i), LogProb: -1}}})
	}
	return p, o
}

func BenchmarkPlan32(b *testing.B) {
	p, _ := decodeStep()
	var d planDecoder
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = appendPlan(buf[:0], &p)
		if _, err := d.decode(buf); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(buf)), "bytes")
}

func BenchmarkOutput32(b *testing.B) {
	_, o := decodeStep()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = appendOutput(buf[:0], &o)
		if _, err := decodeOutput(buf); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(buf)), "bytes")
}
