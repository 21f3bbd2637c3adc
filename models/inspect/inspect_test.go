package inspect

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"llamero/models"
)

// file is a GGUF in the making.
type file struct {
	keys    []any // key, value, key, value …
	tensors []tensor
}

type tensor struct {
	name string
	typ  uint32
	dims []uint64
	size int // bytes of its data
}

// GGUF's value types.
const (
	typeUint32 = 4
	typeInt32  = 5
	typeFloat  = 6
	typeString = 8
	typeArray  = 9
)

func (f file) bytes(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	le := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	str := func(s string) { le(uint64(len(s))); b.WriteString(s) }
	b.WriteString("GGUF")
	le(uint32(3))
	le(uint64(len(f.tensors)))
	le(uint64(len(f.keys) / 2))
	for i := 0; i < len(f.keys); i += 2 {
		str(f.keys[i].(string))
		switch v := f.keys[i+1].(type) {
		case uint32:
			le(uint32(typeUint32))
			le(v)
		case float32:
			le(uint32(typeFloat))
			le(v)
		case string:
			le(uint32(typeString))
			str(v)
		case []string:
			le(uint32(typeArray))
			le(uint32(typeString))
			le(uint64(len(v)))
			for _, s := range v {
				str(s)
			}
		case []int32:
			le(uint32(typeArray))
			le(uint32(typeInt32))
			le(uint64(len(v)))
			le(v)
		case []byte: // as it is: type and value
			b.Write(v)
		default:
			t.Fatalf("no way to write a %T", v)
		}
	}
	offset := 0
	for _, x := range f.tensors {
		str(x.name)
		le(uint32(len(x.dims)))
		le(x.dims)
		le(x.typ)
		le(uint64(offset))
		offset += (x.size + 31) / 32 * 32
	}
	for b.Len()%32 != 0 {
		b.WriteByte(0)
	}
	b.Write(make([]byte, offset))
	return b.Bytes()
}

func (f file) write(t testing.TB, name string) string {
	t.Helper()
	if filepath.Dir(name) == "." {
		name = filepath.Join(t.TempDir(), name)
	}
	if err := os.WriteFile(name, f.bytes(t), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// small is a model of two layers with everything that is looked at.
func small() file {
	return file{
		keys: []any{
			"general.architecture", "llama",
			"general.name", "Tiny \x1b[31mred",
			"general.license", "apache-2.0",
			"general.file_type", uint32(2),
			"llama.context_length", uint32(4096),
			"llama.embedding_length", uint32(128),
			"llama.block_count", uint32(2),
			"llama.attention.head_count", uint32(4),
			"llama.attention.head_count_kv", uint32(2),
			"llama.rope.freq_base", float32(10000),
			"tokenizer.ggml.model", "gpt2",
			"tokenizer.ggml.pre", "smollm",
			"tokenizer.ggml.tokens", []string{"<s>", "</s>", "a", "b"},
			"tokenizer.ggml.merges", []string{"a b"},
			"tokenizer.ggml.bos_token_id", uint32(0),
			"tokenizer.ggml.eos_token_id", uint32(1),
			"tokenizer.ggml.padding_token_id", uint32(99),
			"tokenizer.chat_template", "{% for m in messages %}\n\n  {{ m.content }}\n{% endfor %}\nend\nmore",
		},
		tensors: []tensor{
			{"token_embd.weight", 8, []uint64{128, 4}, 544},
			{"blk.0.attn_q.weight", 2, []uint64{128, 128}, 9216},
			{"blk.1.attn_q.weight", 2, []uint64{128, 128}, 9216},
			{"output_norm.weight", 0, []uint64{128}, 512},
		},
	}
}

func TestRead(t *testing.T) {
	path := small().write(t, "tiny.gguf")
	d, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != `Tiny \x1b[31mred` {
		t.Errorf("name %q: it must be fit for a terminal", d.Name)
	}
	if d.Architecture != "llama" || d.Context != 4096 || d.Layers != 2 || d.Heads != 4 || d.Embedding != 128 || d.Parts != 1 || d.Version != 3 || d.FileType != "q4_0" {
		t.Errorf("%+v", d)
	}
	if d.Parameters != 512+2*16384+128 {
		t.Errorf("%d parameters", d.Parameters)
	}
	want := []TypeUse{{"Q4_0", 2, 32768, 18432}, {"Q8_0", 1, 512, 544}, {"F32", 1, 128, 512}}
	if len(d.Types) != len(want) {
		t.Fatalf("types %+v", d.Types)
	}
	for i, u := range d.Types {
		if u != want[i] {
			t.Errorf("type %+v, want %+v", u, want[i])
		}
	}
	v := d.Vocabulary
	if v.Tokens != 4 || v.Merges != 1 || v.Kind != "gpt2" || v.Pre != "smollm" || len(v.Special) != 3 || v.Special[1] != (Special{"eos", 1, "</s>"}) || v.Special[2].Text != "" {
		t.Errorf("vocabulary %+v", v)
	}
	if tm := d.Template; tm == nil || tm.Lines != 6 || len(tm.First) != 3 || tm.First[1] != "{{ m.content }}" {
		t.Errorf("template %+v", tm)
	}
	// Two layers, two heads of 32, keys and values: 256 values.
	for typ, want := range map[string]int{"f16": 512, "f32": 1024, "q8_0": 4 * 2 * 34} {
		if n, err := d.TokenBytes(typ, typ); err != nil || n != want {
			t.Errorf("a token's KV in %s: %d, %v; want %d", typ, n, err, want)
		}
	}
	if _, err := d.TokenBytes("f16", "q1_7"); err == nil {
		t.Error("an unknown K/V type is taken")
	}
	var out bytes.Buffer
	d.Write(&out, d.Fit(1<<30, 4096*512*4, 8), true)
	for _, want := range []string{"Q4_0", "512 bytes in f16; 16384 tokens fit", "| 4 ", "4096", "tokenizer.ggml.tokens = [<s> </s> a b]", "llama.rope.freq_base = 10000", "serve would take 8 slots of 2048 tokens, layout split"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
	if b, err := json.Marshal(d); err != nil || !json.Valid(b) {
		t.Error(err)
	}
}

// Heads may differ by layer, and sizes of keys and values be their own.
func TestTokenBytes(t *testing.T) {
	f := small()
	set := func(key string, v any) {
		for i := 0; i < len(f.keys); i += 2 {
			if f.keys[i] == key {
				f.keys[i+1] = v
				return
			}
		}
		f.keys = append(f.keys, key, v)
	}
	bytesOf := func() (int, error) {
		d, err := Read(f.write(t, "a.gguf"))
		if err != nil {
			t.Fatal(err)
		}
		return d.TokenBytes("f16", "f16")
	}
	set("llama.attention.head_count_kv", []int32{0, 2})
	if n, err := bytesOf(); err != nil || n != 256 {
		t.Errorf("a layer without: %d, %v", n, err)
	}
	set("llama.attention.key_length", uint32(64))
	if n, err := bytesOf(); err != nil || n != 2*(128+64) {
		t.Errorf("longer keys: %d, %v", n, err)
	}
	for name, v := range map[string]any{"negative": []int32{-1, 2}, "three of two": []int32{1, 2, 3}, "absurd": uint32(1 << 31)} {
		set("llama.attention.head_count_kv", v)
		if n, err := bytesOf(); !errors.Is(err, ErrNoKV) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	set("llama.attention.head_count_kv", "many")
	set("llama.attention.head_count", "many")
	if n, err := bytesOf(); !errors.Is(err, ErrNoKV) {
		t.Errorf("no number: %d, %v", n, err)
	}
}

func TestReadParts(t *testing.T) {
	dir := t.TempDir()
	first := small()
	first.keys = append(first.keys, "split.count", uint32(2))
	first.write(t, filepath.Join(dir, "m-00001-of-00002.gguf"))
	second := file{tensors: []tensor{{"blk.2.attn_q.weight", 2, []uint64{128, 128}, 9216}}}
	second.write(t, filepath.Join(dir, "m-00002-of-00002.gguf"))
	d, err := Read(filepath.Join(dir, "m-00001-of-00002.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	if d.Parts != 2 || d.Types[0].Tensors != 3 {
		t.Errorf("%d parts, %+v", d.Parts, d.Types)
	}
	if err := os.Remove(filepath.Join(dir, "m-00002-of-00002.gguf")); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(filepath.Join(dir, "m-00001-of-00002.gguf")); err == nil || !strings.Contains(err.Error(), "m-00002-of-00002.gguf is not there") {
		t.Errorf("a part is missing: %v", err)
	}
	first.write(t, filepath.Join(dir, "other.gguf"))
	if _, err := Read(filepath.Join(dir, "other.gguf")); err == nil || !strings.Contains(err.Error(), "00001-of-00002") {
		t.Errorf("not the first's name: %v", err)
	}
}

func TestReadErrors(t *testing.T) {
	cut := small().bytes(t)
	unknown, huge, larger, parts := small(), small(), small(), small()
	unknown.tensors[1].typ = 4 // Q4_2, which is no more
	huge.tensors[1].dims = []uint64{1 << 40, 1 << 40}
	larger.tensors[1].dims = []uint64{1 << 20, 1 << 10}
	parts.keys = append(parts.keys, "split.tensors.count", uint32(1<<30))
	align := small()
	align.keys = append(align.keys, "general.alignment", "wide")
	nested := small()
	nested.keys = append(nested.keys, "x", []byte("\x09\x00\x00\x00\x09\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00"))
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":              {nil, "not a GGUF"},
		"text":               {[]byte("<html>"), "not a GGUF"},
		"cut in the weights": {cut[:len(cut)-100], "truncated"},
		"cut in the header":  {cut[:200], "truncated"},
		"unknown type":       {unknown.bytes(t), "its header is damaged"},
		"too large":          {huge.bytes(t), "overflow"},
		"larger":             {larger.bytes(t), "truncated"},
		"parts":              {parts.bytes(t), "damaged: 1073741824 tensors in all parts"},
		"alignment":          {align.bytes(t), "alignment"},
		"list of lists":      {nested.bytes(t), "damaged: an array of type 9"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m.gguf")
			if err := os.WriteFile(path, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Read(path); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v; want %q and the path", err, c.want)
			}
		})
	}
}

// Whatever the bytes are, reading ends without a panic, and what is read can be
// printed: no control character of the file reaches the terminal.
func FuzzRead(f *testing.F) {
	f.Add(small().bytes(f))
	f.Add(small().bytes(f)[:300])
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "m.gguf")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Read(path)
		if err != nil {
			return
		}
		d.Path = ""
		var out bytes.Buffer
		d.Write(&out, d.Fit(1<<30, 1<<28, 8), true)
		for line := range strings.Lines(out.String()) {
			if i := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
				t.Errorf("a control character in %q", line)
			}
		}
	})
}

// The real model, where it is there.
func TestReadModel(t *testing.T) {
	path, err := models.Resolve(os.Getenv("LLAMERO_MODEL"))
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	d, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if d.Layers == 0 || d.Context == 0 || d.Vocabulary.Tokens == 0 || d.Template == nil || d.BitsPerWeight < 1 || d.BitsPerWeight > 33 {
		t.Errorf("%+v", d)
	}
	if strings.Contains(path, "SmolLM2-135M") {
		if n, err := d.TokenBytes("f16", "f16"); err != nil || n != 23040 {
			t.Errorf("a token's KV takes %d, %v; 30 layers of 2 × 192 halves are 23040", n, err)
		}
	}
}
