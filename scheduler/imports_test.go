package scheduler

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// rank orders the folders whose imports point one way: a package imports what is
// of a lower rank, and packages of its own folder.
var rank = map[string]int{
	"tokenizer": 0, "cache": 1, "engine": 1, "scheduler": 2, "scheduler/loop": 3, "server": 4, "": 5,
}

// pure are the packages that touch neither clock, network, files nor logs.
var pure = []string{"llamero/tokenizer", "llamero/engine", "llamero/cache", "llamero/scheduler"}

// worldly is what a pure package does not import, itself or by prefix.
var worldly = []string{
	"time", "net", "os", "log", "syscall", "unsafe", "io", "testing",
	"go.opentelemetry.io", "github.com/redis", "github.com/hashicorp",
	"github.com/hybridgroup/yzma", "github.com/ebitengine/purego", "github.com/jupiterrider/ffi",
}

// homes are the dependencies that have one folder each.
var homes = map[string][]string{
	"github.com/hybridgroup/yzma":       {"llamero/engine/llama"},
	"github.com/ebitengine/purego":      {"llamero/engine/llama"},
	"github.com/jupiterrider/ffi":       {"llamero/engine/llama"},
	"github.com/gofiber/fiber":          {"llamero/server"},
	"github.com/valyala/fasthttp":       {"llamero/server"},
	"github.com/redis/go-redis":         {"llamero/cache/store"},
	"github.com/hashicorp/golang-lru":   {"llamero/cache/store"},
	"github.com/ardanlabs/jinja":        {"llamero/tokenizer/template"},
	"llamero/engine/llama":              {"llamero", "llamero/bench/raw", "llamero/engine/worker", "llamero/models/inspect", "llamero/models/native", "llamero/models/tune"},
	"llamero/engine/enginetest":         {},
	"llamero/cache/store/storetest":     {},
	"github.com/elastic/go-seccomp-bpf": {"llamero/engine/worker"},
	"github.com/cockroachdb/datadriven": {},
	"go.opentelemetry.io":               {"llamero/server/telemetry"},
	"github.com/prometheus":             {"llamero/server/telemetry"},
}

func under(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// imports are the direct imports of each of our packages, tests left out.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-e", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "llamero/...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	all := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 0 && under(f[0], "llamero") {
			all[f[0]] = f[1:]
		}
	}
	for _, path := range []string{"llamero/scheduler", "llamero/engine", "llamero/tokenizer", "llamero/engine/llama"} {
		if len(all[path]) == 0 {
			t.Fatalf("go list does not know the imports of %s:\n%s", path, out)
		}
	}
	return all
}

func TestPurePackages(t *testing.T) {
	all := imports(t)
	for _, path := range pure {
		for _, imported := range all[path] {
			for _, w := range worldly {
				if under(imported, w) {
					t.Errorf("%s imports %s", path, imported)
				}
			}
			if under(imported, path) {
				t.Errorf("%s, which is pure, imports %s, which need not be", path, imported)
			}
			if strings.Contains(strings.Split(imported, "/")[0], ".") {
				t.Errorf("%s imports %s, which is not ours", path, imported)
			}
		}
	}
	// What is pure stays so all the way down: our packages below are pure too.
	out, err := exec.Command("go", "list", "-deps", "llamero/scheduler").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		if under(dep, "llamero") && !slices.Contains(pure, dep) {
			t.Errorf("llamero/scheduler depends on %s, which is not pure", dep)
		}
	}
}

func TestImportsPointOneWay(t *testing.T) {
	// folder is the ranked folder of a package, and whether it has a rank.
	folder := func(path string) (string, bool) {
		path = strings.TrimPrefix(strings.TrimPrefix(path, "llamero"), "/")
		for path != "" {
			if _, ok := rank[path]; ok {
				return path, true
			}
			i := strings.LastIndex(path, "/")
			if i < 0 {
				return "", false
			}
			path = path[:i]
		}
		return "", true
	}
	for path, list := range imports(t) {
		from, ok := folder(path)
		if !ok {
			continue
		}
		for _, imported := range list {
			if !under(imported, "llamero") {
				continue
			}
			if to, ok := folder(imported); ok && to != from && rank[to] >= rank[from] {
				t.Errorf("%s imports %s: arrows point the other way", path, imported)
			}
		}
	}
}

func TestDependenciesStayAtHome(t *testing.T) {
	for path, list := range imports(t) {
		for _, imported := range list {
			for dep, home := range homes {
				if under(imported, dep) && !under(path, dep) && !slices.Contains(home, path) {
					t.Errorf("%s imports %s, which belongs to %v alone", path, imported, home)
				}
			}
		}
	}
}
