package configs

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// file reads a YAML file. Scalars go through the same parser as flags and
// environment; what the grammar adds (anchors, tags, merges) is refused, since no
// setting needs it.
func (l *loader) file(name string) {
	b, err := readFile(name)
	if err != nil {
		l.problem("", "", fmt.Sprintf("the configuration file %v", err))
		return
	}
	short := filepath.Base(name)
	tree, err := parser.ParseBytes(b, 0)
	if err != nil {
		source, text := short, err.Error()
		var yerr yaml.Error
		if errors.As(err, &yerr) && yerr.GetToken() != nil {
			source, text = fmt.Sprintf("%s:%d", short, yerr.GetToken().Position.Line), yerr.GetMessage()
		}
		l.problem("", source, "not YAML: "+text)
		return
	}
	if len(tree.Docs) > 1 {
		l.problem("", short, "more than one YAML document")
		return
	}
	for _, doc := range tree.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType || doc.Body.Type() == ast.NullType {
			continue // an empty file sets nothing
		}
		l.mapping(short, "", doc.Body, func(path, source string, value ast.Node) {
			if !isSection(path) {
				l.unknown(path, source, sections())
				return
			}
			l.mapping(short, path+".", value, l.setting)
		})
	}
}

// mapping calls each for the entries of a mapping, with their full paths.
func (l *loader) mapping(file, prefix string, node ast.Node, each func(path, source string, value ast.Node)) {
	var entries []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		entries = n.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{n}
	case *ast.NullNode:
		return // a section whose settings are all commented out
	default:
		l.problem(strings.TrimSuffix(prefix, "."), position(file, node), "not a mapping of settings to values")
		return
	}
	for _, e := range entries {
		each(prefix+e.Key.GetToken().Value, position(file, e.Key), e.Value)
	}
}

// setting takes one value within a section.
func (l *loader) setting(path, source string, value ast.Node) {
	f, ok := lookup(path)
	if !ok {
		section, _, _ := strings.Cut(path, ".")
		l.unknown(path, source, settings(section))
		return
	}
	if f.Secret {
		l.keys(f, source, value)
		return
	}
	text, err := scalar(value)
	if err != nil {
		l.problem(path, source, err.Error())
		return
	}
	l.set(f, text, source)
}

// keys takes the list of API keys.
func (l *loader) keys(f Field, source string, value ast.Node) {
	list, ok := value.(*ast.SequenceNode)
	if !ok {
		l.problem(f.Path, source, "not a list of {name, secret}")
		return
	}
	var keys []Key
	for _, item := range list.Values {
		var k Key
		file, _, _ := strings.Cut(source, ":")
		l.mapping(file, f.Path+"[].", item, func(path, source string, value ast.Node) {
			text, err := scalar(value)
			switch {
			case err != nil:
				l.problem(path, source, err.Error())
			case path == f.Path+"[].name":
				k.Name = text
			case path == f.Path+"[].secret":
				k.Secret = Secret(text)
			default:
				l.unknown(path, source, "name, secret")
			}
		})
		keys = append(keys, k)
	}
	l.c.Server.APIKeys = keys
	l.from[f.Path] = source
}

func (l *loader) unknown(path, source, known string) {
	l.problem(clip(path), source, "no such setting; there are "+known)
}

// scalar returns a plain value's text.
func scalar(node ast.Node) (string, error) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return strings.TrimSpace(n.Value.Value), nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return node.GetToken().Value, nil
	case *ast.NullNode:
		return "", errors.New("it has no value; leave the line out to keep the default")
	}
	return "", errors.New("not a plain value")
}

func position(file string, node ast.Node) string {
	if tok := node.GetToken(); tok != nil && tok.Position != nil {
		return fmt.Sprintf("%s:%d", file, tok.Position.Line)
	}
	return file
}

func isSection(name string) bool {
	for _, f := range table {
		if strings.HasPrefix(f.Path, name+".") {
			return true
		}
	}
	return false
}

func sections() string {
	var names []string
	for _, f := range table {
		section, _, _ := strings.Cut(f.Path, ".")
		if len(names) == 0 || names[len(names)-1] != section {
			names = append(names, section)
		}
	}
	return strings.Join(names, ", ")
}

func settings(section string) string {
	var names []string
	for _, f := range table {
		if rest, ok := strings.CutPrefix(f.Path, section+"."); ok {
			names = append(names, rest)
		}
	}
	return strings.Join(names, ", ")
}
