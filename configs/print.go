package configs

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
)

// YAML returns the settings as a file that Load reads back to the same settings.
// API keys are left out but for their names, in a comment.
func (c *Config) YAML() (string, error) {
	var b strings.Builder
	section := ""
	for _, f := range table {
		head, key, _ := strings.Cut(f.Path, ".")
		if head != section {
			section = head
			fmt.Fprintf(&b, "%s:\n", head)
		}
		if f.Secret {
			if len(c.Server.APIKeys) > 0 {
				fmt.Fprintf(&b, "  # %s: %d, not shown\n", key, len(c.Server.APIKeys))
			}
			continue
		}
		value, err := yamlScalar(f.of(c).Kind().String(), format(f.of(c)))
		if err != nil {
			return "", fmt.Errorf("print %s: %w", f.Path, err)
		}
		fmt.Fprintf(&b, "  %s: %s\n", key, value)
	}
	return b.String(), nil
}

// yamlScalar quotes text where it would read as something else.
func yamlScalar(kind, text string) (string, error) {
	if kind != "string" {
		return text, nil
	}
	out, err := yaml.MarshalWithOptions(text, yaml.JSON())
	return strings.TrimSpace(string(out)), err
}

// Markdown returns the table of settings that the README shows.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| YAML | flag | environment | default | meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, f := range table {
		flag := "–"
		if f.Flag != "" {
			flag = "`--" + f.Flag + "`"
		}
		def := f.Auto
		if def == "" && f.Default() != "" {
			def = "`" + f.Default() + "`"
		}
		if def == "" {
			def = "–"
		}
		doc := f.Doc
		if allowed := f.Allowed(); allowed != "" {
			doc += " (" + allowed + ")"
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s | %s |\n", f.Path, flag, f.Env, def, strings.ReplaceAll(doc, "|", `\|`))
	}
	return b.String()
}
