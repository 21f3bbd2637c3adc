package openai

import "encoding/json"

// What these endpoints do not serve yet is refused by name. A value that asks for
// nothing (null, an empty list, "none", the default) passes.

var constraints = []string{ // of vLLM and llama-server: they shape the answer, so ignoring them would be wrong
	"grammar", "json_schema", "structured_outputs",
	"guided_json", "guided_regex", "guided_choice", "guided_grammar",
}

func (f fields) refuseShared() {
	for _, name := range constraints {
		if f.has(name) {
			f.fail(notServed(name, name))
		}
	}
	if v, _ := f.boolean("use_beam_search"); v {
		f.fail(notServed("use_beam_search", "beam search"))
	}
	if rf, ok := f.object("response_format"); ok {
		if t, _ := rf.str("type", maxName); t != "text" {
			f.fail(notServed("response_format", "a response_format other than text"))
		}
	}
}

func (f fields) refuseChat() {
	f.refuseShared()
	for _, name := range []string{"tools", "functions"} {
		if elems, ok := f.array(name, 4096); ok && len(elems) > 0 {
			f.fail(notServed(name, name))
		}
	}
	for _, name := range []string{"tool_choice", "function_call"} {
		if raw := f.get(name); raw != nil && !isString(raw, "none") {
			f.fail(notServed(name, name+" other than none"))
		}
	}
	for _, name := range []string{"audio", "web_search_options"} {
		if f.has(name) {
			f.fail(notServed(name, name))
		}
	}
	if elems, ok := f.array("modalities", 16); ok {
		for _, e := range elems {
			if !isString(e, "text") {
				f.fail(notServed("modalities", "a modality other than text"))
			}
		}
	}
	if v, _ := f.boolean("store"); v {
		f.fail(notServed("store", "store"))
	}
}

func (f fields) refuseCompletion(n int) {
	f.refuseShared()
	if s, ok := f.str("suffix", 1<<30); ok && s != "" {
		f.fail(notServed("suffix", "suffix"))
	}
	if v, ok := f.integer("best_of", 1, 1<<20); ok && int(v) > n {
		f.fail(notServed("best_of", "best_of greater than n"))
	}
}

func isString(raw json.RawMessage, want string) bool {
	s, ok := unquote(raw)
	return ok && s == want
}
