package inspect

import (
	"errors"
	"fmt"
	"strings"

	gguf "github.com/gpustack/gguf-parser-go"
)

// Description is what a model file holds. Text in it is fit for a terminal; what
// the file does not say is "" or 0.
type Description struct {
	Path          string     `json:"path"`
	Bytes         int64      `json:"bytes"` // of all parts
	Parts         int        `json:"parts"` // files that the model is split into
	Version       int        `json:"gguf_version"`
	Name          string     `json:"name"`
	License       string     `json:"license,omitempty"`
	Architecture  string     `json:"architecture"`
	FileType      string     `json:"file_type"`
	Parameters    int64      `json:"parameters"`
	BitsPerWeight float64    `json:"bits_per_weight"`
	Types         []TypeUse  `json:"types"`             // what the weights are stored as, by bytes
	Context       int        `json:"context"`           // tokens that it was trained for
	Window        int        `json:"window,omitempty"`  // of sliding attention, in tokens
	Experts       int        `json:"experts,omitempty"` // of a mixture
	Embedding     int        `json:"embedding"`
	Layers        int        `json:"layers"`
	Heads         int        `json:"heads"`
	Vocabulary    Vocabulary `json:"vocabulary"`
	Template      *Template  `json:"template"` // nil: none
	Metadata      []Entry    `json:"metadata"` // everything, by key

	kvHeads            []int64 // by layer; nil: not known
	keySize, valueSize int     // of a head
}

// TypeUse says how many weights are stored as a type.
type TypeUse struct {
	Type       string `json:"type"`
	Tensors    int    `json:"tensors"`
	Parameters int64  `json:"parameters"`
	Bytes      int64  `json:"bytes"`
}

// Vocabulary says how text becomes tokens.
type Vocabulary struct {
	Kind    string    `json:"kind"` // "gpt2", "llama", …
	Pre     string    `json:"pre,omitempty"`
	Tokens  int       `json:"tokens"`
	Merges  int       `json:"merges,omitempty"`
	Special []Special `json:"special"`
}

// Special is a token with a part to play.
type Special struct {
	Name string `json:"name"`
	ID   int64  `json:"id"`
	Text string `json:"text"`
}

// Template is the model's chat template.
type Template struct {
	Bytes int      `json:"bytes"`
	Lines int      `json:"lines"`
	First []string `json:"first"` // how it begins
}

// Entry is one value of the metadata.
type Entry struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

const firstLines, lineRunes = 3, 120

func newTemplate(source string) *Template {
	t := &Template{Bytes: len(source)}
	for line := range strings.Lines(source) {
		t.Lines++
		if line = strings.TrimSpace(line); line != "" && len(t.First) < firstLines {
			t.First = append(t.First, clean(line, lineRunes))
		}
	}
	return t
}

// ErrNoKV is a model whose KV cache this package cannot size: it has none, as
// recurrent models, or its file does not say enough.
var ErrNoKV = errors.New("the size of its KV cache is not known")

// kvTypes are the types that a KV cache is measured in.
var kvTypes = map[string]gguf.GGMLType{
	"f32": gguf.GGMLTypeF32, "f16": gguf.GGMLTypeF16, "bf16": gguf.GGMLTypeBF16, "q8_0": gguf.GGMLTypeQ8_0, "q5_1": gguf.GGMLTypeQ5_1,
	"q5_0": gguf.GGMLTypeQ5_0, "q4_1": gguf.GGMLTypeQ4_1, "q4_0": gguf.GGMLTypeQ4_0, "iq4_nl": gguf.GGMLTypeIQ4_NL,
}

// TokenBytes is what the KV of one token takes, all layers, with keys and values of
// the given types. Sliding windows are not subtracted.
func (d *Description) TokenBytes(typeK, typeV string) (int, error) {
	if len(d.kvHeads) == 0 || d.keySize <= 0 || d.valueSize <= 0 {
		return 0, ErrNoKV
	}
	k, okK := kvTypes[typeK]
	v, okV := kvTypes[typeV]
	if !okK || !okV {
		return 0, fmt.Errorf("unknown K/V type %q or %q", typeK, typeV)
	}
	const most = 1 << 30
	var total int64
	for _, heads := range d.kvHeads {
		if heads < 0 || heads > most/int64(max(d.keySize, d.valueSize)) {
			return 0, ErrNoKV
		}
		total += int64(k.RowSizeOf([]uint64{uint64(heads) * uint64(d.keySize)}) + v.RowSizeOf([]uint64{uint64(heads) * uint64(d.valueSize)}))
	}
	if total <= 0 || total > most {
		return 0, ErrNoKV
	}
	return int(total), nil
}
