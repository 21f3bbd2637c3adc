package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// check compares the spans of the exchange's trace with what it was.
func (x *exchange) check(t *testing.T, spans []span, content bool) {
	server, rest := x.root(t, spans)
	hasAttributes(t, server, x.server)
	hasAttributes(t, server, map[string]any{"llamero.request.id": x.id})
	if x.answer == nil {
		if e, _ := server.attr["error.type"].(string); e == "" {
			t.Error("a refused request has no error.type")
		}
		if server.status == statusError {
			t.Error("a client's mistake counts as the server's error")
		}
		if len(rest) != 0 {
			t.Errorf("a refused request has spans below: %v", names(rest))
		}
		return
	}
	if _, ok := server.attr["error.type"]; ok || server.status == statusError {
		t.Errorf("error.type is %v, status %d", server.attr["error.type"], server.status)
	}
	if port, _ := server.attr["server.port"].(int64); port == 0 {
		t.Errorf("server.port is %v", server.attr["server.port"])
	}
	answer, waits := x.tree(t, server, rest)
	t.Log(render(server, answer, waits))
	hasAttributes(t, answer, x.answer)
	hasAttributes(t, answer, map[string]any{"gen_ai.response.id": x.got.ID,
		"gen_ai.usage.input_tokens": x.got.Usage.Prompt, "gen_ai.usage.output_tokens": x.got.Usage.Completion})
	if cached, ok := answer.attr["gen_ai.usage.cache_read.input_tokens"].(int64); !ok || cached < 0 || cached > x.got.Usage.Prompt {
		t.Errorf("cached tokens: %v", answer.attr["gen_ai.usage.cache_read.input_tokens"])
	}
	if len(answer.events) != 1 {
		t.Fatalf("the answer's events: %v", answer.events)
	}
	if e := answer.events[0]; e.name != "prefix lookup" || e.at.Before(answer.start) || e.at.After(answer.end) || e.attr["llamero.lookup.tier"] != "host" ||
		e.attr["llamero.lookup.asked_tokens"] != x.got.Usage.Prompt || e.attr["llamero.lookup.found_tokens"] != answer.attr["gen_ai.usage.cache_read.input_tokens"] {
		t.Errorf("event %s at %v: %v", e.name, e.at, e.attr)
	}
	if decode := waits[2]; x.chunked && !decode.end.After(x.early) {
		t.Errorf("decode ends %v, when a quarter of the tokens had come %v", decode.end, x.early)
	}
	x.checkContent(t, answer, content)
}

// checkGone is check for a request whose client left.
func (x *exchange) checkGone(t *testing.T, spans []span) {
	server, rest := x.root(t, spans)
	if e, _ := server.attr["error.type"].(string); e == "" {
		t.Errorf("the SERVER span does not tell: %v", server.attr)
	}
	answer, _ := x.tree(t, server, rest)
	if n, _ := answer.attr["gen_ai.usage.output_tokens"].(int64); n < 1 || n >= 900 {
		t.Errorf("output tokens: %v", answer.attr["gen_ai.usage.output_tokens"])
	}
}

// root finds the SERVER span of the exchange and the other spans of its trace.
func (x *exchange) root(t *testing.T, spans []span) (server span, rest []span) {
	t.Helper()
	for _, s := range spans {
		switch {
		case s.trace != x.trace:
		case s.id == x.span:
			server = s
		default:
			rest = append(rest, s)
		}
	}
	if server.id == "" {
		t.Fatalf("the collector has not got span %s of trace %s", x.span, x.trace)
	}
	parent := ""
	if h := x.header["traceparent"]; h != "" {
		parts := strings.Split(h, "-")
		parent = parts[2]
		if x.trace != parts[1] {
			t.Errorf("trace %s, the caller's is %s", x.trace, parts[1])
		}
	}
	if server.parent != parent || server.kind != kindServer || server.name != "POST "+x.path {
		t.Errorf("SERVER span %q, kind %d, parent %q", server.name, server.kind, server.parent)
	}
	if server.start.Before(x.sent) {
		t.Errorf("the SERVER span begins %v, the request was sent %v", server.start, x.sent)
	}
	return server, rest
}

// tree checks that below server there is the answer's span, below it the waits, one
// after another, and nothing else. It returns the answer's and the waits.
func (x *exchange) tree(t *testing.T, server span, rest []span) (answer span, waits []span) {
	t.Helper()
	operation := "chat"
	if x.path != chatPath {
		operation = "text_completion"
	}
	var below []span
	for _, s := range rest {
		if s.parent == server.id {
			below = append(below, s)
		}
	}
	if len(below) != 1 || below[0].name != operation+" "+model {
		t.Fatalf("below the SERVER span are %v", names(below))
	}
	answer = below[0]
	within(t, answer, server)
	for _, s := range rest {
		if s.parent == answer.id {
			waits = append(waits, s)
			within(t, s, answer)
		}
	}
	slices.SortFunc(waits, func(a, b span) int { return cmp.Or(a.start.Compare(b.start), a.end.Compare(b.end)) })
	if got := names(waits); !slices.Equal(got, []string{"queue", "prefill", "decode"}) || len(waits)+1 != len(rest) {
		t.Fatalf("below %s are %v, in all there are %v", answer.name, got, names(rest))
	}
	for i, s := range waits[1:] {
		if before := waits[i]; s.start.Before(before.end) {
			t.Errorf("%s begins %v, %s ends %v", s.name, s.start, before.name, before.end)
		}
	}
	return answer, waits
}

func within(t *testing.T, s, parent span) {
	t.Helper()
	if s.kind != kindInternal {
		t.Errorf("%s is of kind %d", s.name, s.kind)
	}
	if s.start.Before(parent.start) || s.end.After(parent.end) || s.end.Before(s.start) {
		t.Errorf("%s %v…%v does not lie within %s %v…%v", s.name, s.start, s.end, parent.name, parent.start, parent.end)
	}
}

// render is the tree as a person reads it.
func render(server, answer span, waits []span) string {
	var b strings.Builder
	line := func(indent string, s span) {
		fmt.Fprintf(&b, "\n%s%s  +%v %v", indent, s.name, s.start.Sub(server.start), s.end.Sub(s.start))
		for _, key := range slices.Sorted(maps.Keys(s.attr)) {
			fmt.Fprintf(&b, "\n%s    %s = %v", indent, key, s.attr[key])
		}
		for _, e := range s.events {
			fmt.Fprintf(&b, "\n%s    event %s  +%v", indent, e.name, e.at.Sub(server.start))
			for _, key := range slices.Sorted(maps.Keys(e.attr)) {
				fmt.Fprintf(&b, "\n%s        %s = %v", indent, key, e.attr[key])
			}
		}
	}
	line("", server)
	line("  ", answer)
	for _, s := range waits {
		line("    ", s)
	}
	return b.String()
}

func names(spans []span) []string {
	out := make([]string, len(spans))
	for i, s := range spans {
		out[i] = s.name
	}
	return out
}

func hasAttributes(t *testing.T, s span, want map[string]any) {
	t.Helper()
	for key, value := range want {
		if !reflect.DeepEqual(s.attr[key], value) {
			t.Errorf("%s: %s is %#v, not %#v", s.name, key, s.attr[key], value)
		}
	}
}

// checkContent compares the messages in a span with what was said.
func (x *exchange) checkContent(t *testing.T, answer span, wanted bool) {
	t.Helper()
	said := "Say " + marker + "."
	if x.path != chatPath {
		said = "Once " + marker
	}
	for key, words := range map[string][]string{"gen_ai.input.messages": {said}, "gen_ai.output.messages": x.text} {
		text, ok := answer.attr[key].(string)
		if ok != wanted {
			t.Errorf("%s is %v", key, answer.attr[key])
		}
		if !wanted || !ok {
			continue
		}
		var messages []struct {
			Role  string
			Parts []struct{ Type, Content string }
		}
		if err := json.Unmarshal([]byte(text), &messages); err != nil || len(messages) != len(words) {
			t.Errorf("%s is %s (%v)", key, text, err)
			continue
		}
		for i, m := range messages {
			if m.Role == "" || len(m.Parts) != 1 || m.Parts[0].Type != "text" || m.Parts[0].Content != words[i] {
				t.Errorf("%s: message %d is %+v, not %q", key, i, m, words[i])
			}
		}
	}
}

// checkHistograms compares the histograms with the requests that were sent: by
// operation and error, how many have a value.
func checkHistograms(t *testing.T, points map[string]point) {
	t.Helper()
	got := map[string]map[string]uint64{}
	for _, p := range points {
		if p.unit != "s" || p.sum <= 0 || p.buckets != p.count {
			t.Errorf("%s: unit %q, sum %v, count %d, in buckets %d", p.name, p.unit, p.sum, p.count, p.buckets)
		}
		if p.attr["gen_ai.request.model"] != model || p.attr["gen_ai.provider.name"] != "llamero" {
			t.Errorf("%s is of %v", p.name, p.attr)
		}
		series, _ := p.attr["gen_ai.operation.name"].(string)
		if e, ok := p.attr["error.type"]; ok {
			series += " " + e.(string)
		}
		if got[p.name] == nil {
			got[p.name] = map[string]uint64{}
		}
		got[p.name][series] += p.count
	}
	want := map[string]map[string]uint64{
		"gen_ai.server.request.duration":      {"chat": 4, "text_completion": 1, "text_completion client_gone": 1},
		"gen_ai.server.time_to_first_token":   {"chat": 4, "text_completion": 2},
		"gen_ai.server.time_per_output_token": {"chat": 4, "text_completion": 1},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("histograms have %v\nwant %v", got, want)
	}
}
