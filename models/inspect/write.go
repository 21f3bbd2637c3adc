package inspect

import (
	"fmt"
	"io"
	"strings"

	"llamero/bench"
)

// Write prints a description for people. all lists every entry of the metadata.
func (d *Description) Write(w io.Writer, m Memory, all bool) {
	line := func(name, format string, args ...any) {
		if text := strings.TrimSpace(fmt.Sprintf(format, args...)); text != "" {
			fmt.Fprintf(w, "%-14s %s\n", name, text)
		}
	}
	line("file", "%s", d.Path)
	parts := ""
	if d.Parts > 1 {
		parts = fmt.Sprintf(" in %d files", d.Parts)
	}
	line("size", "%s%s, GGUF version %d", mega(d.Bytes), parts, d.Version)
	line("name", "%s", d.Name)
	line("license", "%s", d.License)
	line("architecture", "%s, %d layers of %d, %d heads%s", orUnknown(d.Architecture), d.Layers, d.Embedding, d.Heads, experts(d.Experts))
	line("parameters", "%.4g million, %.2f bits each, mostly %s", float64(d.Parameters)/1e6, d.BitsPerWeight, orUnknown(d.FileType))
	line("context", "%d tokens%s", d.Context, window(d.Window))
	v := d.Vocabulary
	line("vocabulary", "%d tokens, %s %s, %d merges", v.Tokens, orUnknown(v.Kind), v.Pre, v.Merges)
	for _, s := range v.Special {
		line("", "%s is %d %s", s.Name, s.ID, s.Text)
	}
	if d.Template == nil {
		line("chat template", "none: ChatML is taken")
	} else {
		line("chat template", "%d bytes, %d lines; it begins", d.Template.Bytes, d.Template.Lines)
		for _, text := range d.Template.First {
			line("", "  %s", text)
		}
	}
	fmt.Fprintln(w)
	t := bench.NewTable("type", "tensors", "parameters", "MB")
	for _, u := range d.Types {
		t.Row(u.Type, fmt.Sprint(u.Tensors), fmt.Sprint(u.Parameters), fmt.Sprintf("%.1f", float64(u.Bytes)/1e6))
	}
	t.Write(w)
	fmt.Fprintln(w)
	m.write(w)
	if !all {
		return
	}
	fmt.Fprintln(w)
	for _, e := range d.Metadata {
		fmt.Fprintf(w, "%s = %s\n", e.Key, e.Value)
	}
}

func (m Memory) write(w io.Writer) {
	fmt.Fprintf(w, "memory: %s of weights", mega(m.Weights))
	if m.Machine > 0 {
		fmt.Fprintf(w, ", %s on this machine", mega(m.Machine))
	}
	fmt.Fprintf(w, ", %s for the KV cache (--kv-memory)\n", mega(m.Budget))
	if m.TooLarge {
		fmt.Fprintln(w, "weights and KV cache together do not fit into this machine's memory")
	}
	if len(m.KV) == 0 {
		fmt.Fprintln(w, "what the KV of a token takes is not known: the model has none, or its file does not say")
		return
	}
	for _, k := range m.KV {
		fmt.Fprintf(w, "KV of a token: %d bytes in %s; %d tokens fit\n", k.Bytes, k.Type, k.Tokens)
	}
	if len(m.Fits) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := bench.NewTable("slots", "tokens a slot", "tokens in all", "layout", "KV MB (f16)")
	for _, s := range m.Fits {
		t.Row(fmt.Sprint(s.Slots), fmt.Sprint(s.Tokens), fmt.Sprint(s.Pool), s.Layout, fmt.Sprintf("%.0f", float64(s.KV)/1e6))
	}
	t.Write(w)
	if s := m.Serve; s != nil {
		fmt.Fprintf(w, "\nserve would take %d slots of %d tokens, layout %s\n", s.Slots, s.Tokens, s.Layout)
	}
}

func mega(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func experts(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d experts", n)
}

func window(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", attention sliding over %d in some layers", n)
}
