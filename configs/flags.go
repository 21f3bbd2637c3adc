package configs

import (
	"reflect"

	"github.com/spf13/pflag"
)

// AddFlags gives fs a flag for every setting but secrets. Load reads them back.
func AddFlags(fs *pflag.FlagSet) {
	def := Default()
	for _, f := range table {
		if f.Flag == "" {
			continue
		}
		v := &flagValue{field: f, text: format(f.of(&def))}
		usage := f.Doc
		if allowed := f.Allowed(); allowed != "" {
			usage += "; " + allowed
		}
		flag := fs.VarPF(v, f.Flag, "", usage+" ["+f.Env+"]")
		if v.Type() == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
}

// flagValue keeps a flag's text once it has been seen to parse.
type flagValue struct {
	field Field
	text  string
}

func (v *flagValue) String() string { return v.text }

func (v *flagValue) Set(text string) error {
	var scratch Config
	if err := v.field.set(&scratch, text); err != nil {
		return err
	}
	v.text = text
	return nil
}

// Type is what --help shows behind the flag.
func (v *flagValue) Type() string {
	var c Config
	switch f := v.field.of(&c); f.Type() {
	case bytesType:
		return "size"
	case durationType:
		return "duration"
	default:
		if f.Kind() == reflect.String && len(v.field.Enum) > 0 {
			return "name"
		}
		return f.Kind().String()
	}
}
