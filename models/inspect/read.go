package inspect

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	gguf "github.com/gpustack/gguf-parser-go"

	"llamero/engine/llama"
	"llamero/models"
)

// maxParts bounds the files of a split model.
const maxParts = 1000

// Read describes a model file; of a model in several files, the first is named.
func Read(path string) (*Description, error) {
	d := &Description{Path: path}
	f, err := d.part(path)
	if err != nil {
		return nil, err
	}
	d.fill(f)
	if d.Parts > 1 {
		rest, err := parts(path, d.Parts)
		if err != nil {
			return nil, err
		}
		for _, name := range rest {
			if _, err := d.part(name); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(d.Types, func(a, b TypeUse) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Type, b.Type)) })
	if d.Parameters > 0 {
		var weights int64
		for _, t := range d.Types {
			weights += t.Bytes
		}
		d.BitsPerWeight = float64(weights) * 8 / float64(d.Parameters)
	}
	return d, nil
}

// part reads one file and counts its tensors.
func (d *Description) part(path string) (*gguf.GGUFFile, error) {
	header, size, err := models.ReadHeader(path)
	if err != nil {
		return nil, err
	}
	f, err := parse(header, size)
	if err != nil {
		return nil, fmt.Errorf("the model file %s cannot be used: %w", path, err)
	}
	d.Bytes += size
	for i := range f.TensorInfos {
		t := &f.TensorInfos[i]
		// The parser has seen that sizes can be computed; offsets lie in the file.
		values, length := int64(t.Elements()), int64(t.Bytes())
		if length < 0 || values < 0 || f.TensorDataStartOffset+int64(t.Offset)+length > size {
			return nil, fmt.Errorf("the model file %s cannot be used: tensor %s: the file is truncated", path, clean(t.Name, 64))
		}
		d.count(t.Type.String(), values, length)
	}
	return f, nil
}

// parse reads a header that has been checked. The parser wants a file, of which it
// looks at no more than the header and the size: this one is ours alone.
func parse(header []byte, size int64) (f *gguf.GGUFFile, err error) {
	tmp, err := os.CreateTemp("", "llamero-header-*")
	if err != nil {
		return nil, fmt.Errorf("copy the header: %w", err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	if _, err := tmp.Write(header); err != nil {
		return nil, fmt.Errorf("copy the header: %w", err)
	}
	if err := tmp.Truncate(size); err != nil { // what is behind takes no room
		return nil, fmt.Errorf("copy the header: %w", err)
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its header is damaged: %v", p)
		}
	}()
	f, err = gguf.ParseGGUFFile(tmp.Name(), gguf.UseMMap())
	if err != nil && strings.Contains(err.Error(), "tensor data needs") {
		err = fmt.Errorf("the file is truncated: %w", err)
	}
	return f, err
}

func (d *Description) count(name string, values, size int64) {
	i := slices.IndexFunc(d.Types, func(t TypeUse) bool { return t.Type == name })
	if i < 0 {
		d.Types = append(d.Types, TypeUse{Type: name})
		i = len(d.Types) - 1
	}
	t := &d.Types[i]
	t.Tensors++
	t.Parameters += values
	t.Bytes += size
	d.Parameters += values
}

var partName = regexp.MustCompile(`^(.*-)(\d{5})(-of-\d{5}\.gguf)$`)

// parts are the names of a split model's further files.
func parts(path string, count int) ([]string, error) {
	m := partName.FindStringSubmatch(filepath.Base(path))
	if m == nil || m[2] != "00001" {
		return nil, fmt.Errorf("%s is one of a model's %d files: name the first, …-00001-of-%05d.gguf", path, count, count)
	}
	var names []string
	for i := 2; i <= count; i++ {
		names = append(names, filepath.Join(filepath.Dir(path), fmt.Sprintf("%s%05d%s", m[1], i, m[3])))
	}
	return names, nil
}

// fill takes what the metadata says.
func (d *Description) fill(f *gguf.GGUFFile) {
	m := metadata{}
	for _, kv := range f.Header.MetadataKV {
		m[kv.Key] = kv.Value
	}
	d.Version = int(f.Header.Version)
	d.Name = m.text("general.name")
	d.License = m.text("general.license")
	d.Architecture = m.text("general.architecture")
	if n, ok := toInt(m["general.file_type"]); ok && n >= 0 && n <= math.MaxUint32 {
		d.FileType = cmp.Or(string(llama.FileTypeOf(uint32(n))), gguf.GGUFFileType(n).String())
	}
	d.Parts = 1
	if n, ok := toInt(m["split.count"]); ok && n > 1 && n <= maxParts {
		d.Parts = int(n)
	}
	a := d.Architecture + "."
	d.Context = m.count(a + "context_length")
	d.Embedding = m.count(a + "embedding_length")
	d.Layers = m.count(a + "block_count")
	d.Heads = m.count(a + "attention.head_count")
	d.Experts = m.count(a + "expert_count")
	d.Window = m.count(a + "attention.sliding_window")
	d.kv(m, a)
	pieces := m.list("tokenizer.ggml.tokens")
	d.Vocabulary = Vocabulary{
		Kind: m.text("tokenizer.ggml.model"), Pre: m.text("tokenizer.ggml.pre"),
		Tokens: len(pieces), Merges: len(m.list("tokenizer.ggml.merges")), Special: []Special{},
	}
	if d.Vocabulary.Tokens == 0 {
		d.Vocabulary.Tokens = m.count(a + "vocab_size")
	}
	for _, name := range []string{"bos", "eos", "eot", "unknown", "padding"} {
		if n, ok := toInt(m["tokenizer.ggml."+name+"_token_id"]); ok {
			s := Special{Name: name, ID: n}
			if n >= 0 && n < int64(len(pieces)) {
				s.Text = clean(fmt.Sprint(pieces[n]), 64)
			}
			d.Vocabulary.Special = append(d.Vocabulary.Special, s)
		}
	}
	if source, ok := m["tokenizer.chat_template"].(string); ok {
		d.Template = newTemplate(source)
	}
	d.Metadata = m.entries()
}

// kv takes what the size of the KV cache depends on. Where heads differ by layer
// they are listed.
func (d *Description) kv(m metadata, a string) {
	layers := d.Layers
	heads := m.numbers(a + "attention.head_count_kv")
	if len(heads) == 0 {
		heads = m.numbers(a + "attention.head_count")
	}
	size := 0
	if d.Heads > 0 {
		size = d.Embedding / d.Heads
	}
	d.keySize = cmp.Or(m.count(a+"attention.key_length"), size)
	d.valueSize = cmp.Or(m.count(a+"attention.value_length"), size)
	switch {
	case len(heads) == 1:
		d.kvHeads = slices.Repeat([]int64{heads[0]}, min(layers, maxLayers))
	case len(heads) == layers:
		d.kvHeads = heads
	}
}

// maxLayers is far above any model's.
const maxLayers = 1 << 12

// metadata reads values by name, whatever their types are.
type metadata map[string]any

func (m metadata) text(key string) string {
	s, _ := m[key].(string)
	return clean(s, 256)
}

// list is the elements of a list.
func (m metadata) list(key string) []any {
	v, _ := m[key].(gguf.GGUFMetadataKVArrayValue)
	return v.Array
}

// count is a number that can be a size, else 0. Of a list it is the largest.
func (m metadata) count(key string) int {
	if n := m.numbers(key); len(n) > 0 {
		if most := slices.Max(n); most > 0 && most <= math.MaxInt32 {
			return int(most)
		}
	}
	return 0
}

// numbers reads a number, or a list of them that is no longer than a model is deep.
func (m metadata) numbers(key string) []int64 {
	if n, ok := toInt(m[key]); ok {
		return []int64{n}
	}
	list := m.list(key)
	if len(list) > maxLayers {
		return nil
	}
	var out []int64
	for _, v := range list {
		n, ok := toInt(v)
		if !ok {
			return nil
		}
		out = append(out, n)
	}
	return out
}

func toInt(v any) (int64, bool) {
	switch n := v.(type) {
	case uint8:
		return int64(n), true
	case int8:
		return int64(n), true
	case uint16:
		return int64(n), true
	case int16:
		return int64(n), true
	case uint32:
		return int64(n), true
	case int32:
		return int64(n), true
	case uint64:
		return int64(min(n, math.MaxInt64)), true
	case int64:
		return n, true
	}
	return 0, false
}

// entries are all values, by key, long ones cut short.
func (m metadata) entries() []Entry {
	out := make([]Entry, 0, len(m))
	for key, value := range m {
		out = append(out, Entry{clean(key, 128), show(value)})
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// shortList is how many elements of a list are shown.
const shortList = 8

// show prints a value in one line.
func show(value any) string {
	v, ok := value.(gguf.GGUFMetadataKVArrayValue)
	switch {
	case !ok:
		return clean(fmt.Sprint(value), 120)
	case len(v.Array) > shortList:
		return fmt.Sprintf("%d of type %s", len(v.Array), v.Type)
	}
	return clean(fmt.Sprint(v.Array), 120)
}

// clean makes a file's text fit for a terminal: one line, no control characters, at
// most so many runes.
func clean(s string, most int) string {
	var b strings.Builder
	n := 0
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		if n == most {
			b.WriteRune('…')
			break
		}
		if !strconv.IsPrint(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
		n++
	}
	return b.String()
}
