package lint

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// stages parses a Dockerfile as BuildKit does.
func stages(text []byte) ([]instructions.Stage, error) {
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	out, _, err := instructions.Parse(parsed.AST, nil)
	return out, err
}

func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := stages(text)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, s := range all {
		if _, tag, _ := strings.Cut(s.BaseName, ":"); tag == "" || tag == "latest" {
			t.Errorf("stage %q: image %q has no tag", s.Name, s.BaseName)
		}
		for _, c := range s.Commands {
			if c, ok := c.(*instructions.CopyCommand); ok && c.From != "" && !names[c.From] {
				t.Errorf("%s copies from a stage that is not before it", c)
			}
		}
		names[s.Name] = true
	}
	// The image that runs: without root, with a health check.
	user, healthy := "", false
	for _, c := range all[len(all)-1].Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.HealthCheckCommand:
			healthy = true
		}
	}
	if uid, _, _ := strings.Cut(user, ":"); uid == "" || uid == "0" || uid == "root" || !healthy {
		t.Errorf("the image runs as %q, has a health check: %v", user, healthy)
	}
	// The check can fail.
	for _, change := range [][2]string{{"COPY --from=fetch", "COPY --form=fetch"}, {"USER ", "USR "}} {
		if _, err := stages(bytes.Replace(text, []byte(change[0]), []byte(change[1]), 1)); err == nil {
			t.Errorf("%q is accepted", change[1])
		}
	}
}
