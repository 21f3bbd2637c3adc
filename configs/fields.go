package configs

import (
	"reflect"
	"slices"
	"strings"
)

// Field describes one setting, as its tags do.
type Field struct {
	Path   string   // in YAML: "engine.slots"
	Flag   string   // without dashes; "" for a secret
	Env    string   // "LLAMERO_SLOTS"
	Doc    string   // one sentence, its unit where it has one
	Enum   []string // the words allowed; nil is any
	Min    string   // in the field's own notation; "" is no bound
	Max    string
	Auto   string // how a default that depends on the machine is found; "" is a fixed one
	Secret bool

	index []int
}

// EnvPrefix begins the name of every environment variable.
const EnvPrefix = "LLAMERO_"

var table = makeTable()

// Fields returns every setting in the order of the file.
func Fields() []Field { return slices.Clone(table) }

func makeTable() []Field {
	var out []Field
	root := reflect.TypeFor[Config]()
	for i := range root.NumField() {
		section := root.Field(i)
		for j := range section.Type.NumField() {
			f := section.Type.Field(j)
			field := Field{
				Path:   section.Tag.Get("yaml") + "." + f.Tag.Get("yaml"),
				Flag:   f.Tag.Get("flag"),
				Env:    EnvPrefix + strings.ToUpper(strings.ReplaceAll(f.Tag.Get("flag"), "-", "_")),
				Doc:    f.Tag.Get("doc"),
				Min:    f.Tag.Get("min"),
				Max:    f.Tag.Get("max"),
				Auto:   f.Tag.Get("auto"),
				Secret: f.Tag.Get("secret") == "true",
				index:  []int{i, j},
			}
			if enum := f.Tag.Get("enum"); enum != "" {
				field.Enum = strings.Split(enum, ",")
			}
			if field.Secret {
				field.Flag = ""
			}
			out = append(out, field)
		}
	}
	return out
}

// lookup finds a setting by its YAML path.
func lookup(path string) (Field, bool) {
	i := slices.IndexFunc(table, func(f Field) bool { return f.Path == path })
	if i < 0 {
		return Field{}, false
	}
	return table[i], true
}

// of returns the field's value within c.
func (f Field) of(c *Config) reflect.Value { return reflect.ValueOf(c).Elem().FieldByIndex(f.index) }

// Default is the setting's value in Default, as text; "" for a secret.
func (f Field) Default() string {
	c := Default()
	return format(f.of(&c))
}

// set parses text into c, checking nothing but the notation.
func (f Field) set(c *Config, text string) error { return parse(f.of(c), text) }

// Allowed says what values a setting takes: "cpu, cuda", "1 to 256", or "".
func (f Field) Allowed() string {
	switch {
	case len(f.Enum) > 0:
		return strings.Join(f.Enum, ", ")
	case f.Min != "" && f.Max != "":
		return f.Min + " to " + f.Max
	}
	return ""
}
