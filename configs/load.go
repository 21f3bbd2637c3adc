package configs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// Most bytes of a configuration or key file.
const maxFile = 1 << 20

// Sources is where settings come from; every part may be absent.
type Sources struct {
	File   string                      // YAML; "" is none
	Getenv func(string) (string, bool) // os.LookupEnv
	Flags  *pflag.FlagSet              // prepared by AddFlags, parsed
}

// Load fills a Config: Default, then the file, the environment, the flags. It
// returns every problem of every source at once, as *Problem values joined.
func Load(src Sources) (Config, error) {
	l := loader{c: Default(), from: map[string]string{}}
	if src.File != "" {
		l.file(src.File)
	}
	if src.Getenv != nil {
		for _, f := range table {
			// An empty variable is an unset one: compose files leave them behind.
			if text, ok := src.Getenv(f.Env); ok && text != "" {
				l.set(f, text, f.Env)
			}
		}
	}
	if src.Flags != nil {
		for _, f := range table {
			if f.Flag == "" {
				continue
			}
			if flag := src.Flags.Lookup(f.Flag); flag != nil && flag.Changed {
				l.set(f, flag.Value.String(), "--"+f.Flag)
			}
		}
	}
	l.c.Engine.divide(func(path string) bool { return l.from[path] != "" })
	if l.c.Server.APIKeysFile != "" {
		l.keysFile(l.c.Server.APIKeysFile)
	}
	// A setting that could not be read has been reported; its default is not at fault.
	for _, p := range l.c.problems() {
		p.Source = l.from[p.Path]
		l.problems = append(l.problems, p)
	}
	var errs []error
	for _, p := range l.problems {
		errs = append(errs, p)
	}
	return l.c, errors.Join(errs...)
}

type loader struct {
	c        Config
	from     map[string]string // path: the source that set it last
	problems []*Problem
}

func (l *loader) set(f Field, text, source string) {
	if err := f.set(&l.c, text); err != nil {
		value := fmt.Sprintf("%q is ", clip(text))
		if f.Secret {
			value = ""
		}
		l.problem(f.Path, source, value+err.Error())
		return
	}
	l.from[f.Path] = source
}

func (l *loader) problem(path, source, text string) {
	l.problems = append(l.problems, &Problem{Path: path, Source: source, Text: text})
}

func (l *loader) keysFile(name string) {
	const path = "server.api_keys_file"
	b, err := readFile(name)
	if err != nil {
		l.problem(path, l.from[path], err.Error())
		return
	}
	keys, err := parseKeys(strings.Split(string(b), "\n"))
	if err != nil {
		l.problem(path, name, strings.Replace(err.Error(), "entry", "line", 1))
		return
	}
	if len(keys) == 0 {
		l.problem(path, name, "it holds no keys; one name:secret a line is wanted")
	}
	l.c.Server.APIKeys = append(l.c.Server.APIKeys[:len(l.c.Server.APIKeys):len(l.c.Server.APIKeys)], keys...)
}

// readFile reads a bounded file.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s is larger than %s", name, Bytes(maxFile))
	}
	return b, nil
}
