package template

import (
	"testing"

	"llamero/tokenizer"
)

// TestWhiteSpace holds white space around tags against what Jinja2 3.1 renders
// with trim_blocks and lstrip_blocks, noted down here.
func TestWhiteSpace(t *testing.T) {
	for _, tc := range []struct{ src, want string }{
		{"a\n", "a"},
		{"a\n\n", "a\n"},
		{"a\r\nb\r\n", "a\nb"},
		{"  {% if true %}\n  a\n  {% endif %}\nb", "  a\nb"},
		{"a {% if true %} b {% endif %} c", "a  b  c"},
		{"a {%- if true -%} b {%- endif -%} c", "abc"},
		{"a\n  {{ 1 }}\n b", "a\n  1\n b"},
		{"a\n {{- 1 -}}\n b", "a1b"},
		{"a \n{{ 1 }}{%- if true %}b{% endif %}", "a \n1b"}, // a tag lies between text and trimming tag
		{"{% if true -%}{{ 1 }}\n b{% endif %}", "1\n b"},   // and to the right
		{"  {%+ if true %}a{% endif %}", "  a"},             // "+" keeps indentation
		{"{% if true +%}\na{% endif %}", "\na"},             // and the newline
		{"a\n  {# note #}\nb", "a\nb"},                      // comments are blocks
		{"a {#- note -#} b", "ab"},                          //
		{"{% if true %}\n\n  {% endif %}x", "\nx"},          //
		{"{{ 1 }}\n  {% if true %}\n{% endif %}", "1\n"},    //
		{"{{ 1 }}  {% if true %}a{% endif %}", "1  a"},      // not first in its line
		{"{% if true %}  {% if true %}a{% endif %}{% endif %}", "  a"},
		{"{% if true %}\n  {% if true %}a{% endif %}{% endif %}", "a"},
		{"{% raw %}{{ x }}{% if %}\n{% endraw %}\nb", "{{ x }}{% if %}\nb"},
		{"{% raw -%}  a  {%- endraw %}b", "ab"},
		{`{{ "}}" }}{{ '%}' }}{% if "%}" %}a{% endif %}`, "}}%}a"},
		{`{{ {'a': {'b': 1}}['a']['b'] }}`, "1"},
		{`say "hi" \ 'yes' \n` + "\t", `say "hi" \ 'yes' \n` + "\t"},
		{"{{ -1 }}{{+1}}", "-11"},
		{"{% set x = 1 %}{% set y %}a{{ x }}{% endset %}{{ y == 'a1' }}", "True"},
		{"{% set x = 'a' == 'a' %}{{ x }}", "True"},
		{"{% for i in [1, 2, 3] if i != 2 %}{{ i }}{% else %}-{% endfor %}", "13"},
		{"{% for i in [] %}{{ i }}{% else %}-{% endfor %}", "-"},
		{"{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% if i == 3 %}{% break %}{% endif %}{% endfor %}", "13"},
		{"{% macro f(x, y='b') %}{{ x }}{{ y }}{% endmacro %}{{ f('a') }}{{ f('c', y='d') }}", "abcd"},
		{"{% generation %}a{% endgeneration %}", "a"},
		{"{{ 'a' if false else 'b' }}{{ 'a' if false }}", "b"},
	} {
		tmpl, err := Parse(tc.src, "", "")
		if err != nil {
			t.Errorf("%q: %v", tc.src, err)
			continue
		}
		segs, err := tmpl.Render(Conversation{})
		if got := tokenizer.JoinSegments(segs); err != nil || got != tc.want {
			t.Errorf("%q: got %q, %v; want %q", tc.src, got, err, tc.want)
		}
	}
}
