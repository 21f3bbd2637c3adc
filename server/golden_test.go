package server

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"llamero/scheduler"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

// TestGolden replays testdata/*.http: a request, a line of dashes, and the answer as
// it left the server. `go test -run Golden -rewrite` writes them anew; read the diff.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.http")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	// One event for the whole answer, so that chunks do not depend on timing.
	ts := start(t, newFake(answer(scheduler.FinishStop, "Llamas 🦙 hum.\nA \"pack\".")), nil)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".http"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			request, want, _ := strings.Cut(string(raw), "\n----\n")
			line, body, _ := strings.Cut(request, "\n")
			method, path, _ := strings.Cut(line, " ")
			status, header, answer := ts.do(t, method, path, body)
			got := fmt.Sprintf("%d %s\n%s\n", status, header.Get("Content-Type"), answer)
			if *rewrite {
				if err := os.WriteFile(file, []byte(request+"\n----\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
