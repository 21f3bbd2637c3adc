package lint

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// load reads a compose file as `docker compose` does: interpolated, checked against
// the Compose Specification's schema, merged, and checked as a whole.
func load(file string, env ...string) (*types.Project, error) {
	opt, err := cli.NewProjectOptions([]string{file}, cli.WithEnv(env), cli.WithProfiles([]string{"*"}))
	if err != nil {
		return nil, err
	}
	return opt.LoadProject(context.Background())
}

var secrets = []string{"LLAMERO_API_KEYS=alice:sesame", "GRAFANA_PASSWORD=sesame", "LLAMERO_CACHE_KEY=sesame, open yourself"}

func composeFile(t *testing.T) string {
	t.Helper()
	file, err := filepath.Abs(filepath.Join("..", "docker-compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCompose(t *testing.T) {
	p, err := load(composeFile(t), secrets...)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"collector", "grafana", "llamero", "prometheus", "redis"}
	if got := p.ServiceNames(); !slices.Equal(got, want) {
		t.Fatalf("services %v, not %v", got, want)
	}
	unchecked := []string{"collector"} // its image has nothing to check with
	for name, s := range p.Services {
		if _, tag, _ := strings.Cut(s.Image, ":"); tag == "" || tag == "latest" {
			t.Errorf("%s: image %q has no tag", name, s.Image)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is published on %q", name, port.Published, port.HostIP)
			}
		}
		if (s.HealthCheck == nil) != slices.Contains(unchecked, name) {
			t.Errorf("%s: health check %+v", name, s.HealthCheck)
		}
		if !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s is not confined: read-only %v, drops %v, %v", name, s.ReadOnly, s.CapDrop, s.SecurityOpt)
		}
		if s.Deploy == nil || s.Deploy.Resources.Limits == nil {
			t.Errorf("%s has no limits", name)
		} else if l := s.Deploy.Resources.Limits; l.MemoryBytes == 0 || l.NanoCPUs == 0 || l.Pids == 0 {
			t.Errorf("%s: limits of memory, CPU, processes: %d, %v, %d", name, l.MemoryBytes, l.NanoCPUs, l.Pids)
		}
		if s.Logging == nil || s.Logging.Options["max-size"] == "" {
			t.Errorf("%s: its log has no bound", name)
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil || !v.ReadOnly {
				t.Errorf("%s: mount of %s, read-only %v: %v", name, v.Source, v.ReadOnly, err)
			}
		}
	}
	if b := p.Services["llamero"].Build; b == nil {
		t.Error("llamero is not built")
	} else if _, err := os.Stat(filepath.Join(b.Context, b.Dockerfile)); err != nil {
		t.Error(err)
	}
}

// Secrets have no default, and what is wrong is found.
func TestComposeRefuses(t *testing.T) {
	file := composeFile(t)
	for i := range secrets {
		name, _, _ := strings.Cut(secrets[i], "=")
		others := slices.Delete(slices.Clone(secrets), i, i+1)
		if _, err := load(file, others...); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
		if _, err := load(file, append(others, name+"=")...); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("with an empty %s: %v", name, err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{{"stop_grace_period:", "stop_grace:"}, {"networks: [cache]", "networks: [cash]"}} {
		wrong := filepath.Join(t.TempDir(), "docker-compose.yaml")
		if err := os.WriteFile(wrong, []byte(strings.Replace(string(b), change[0], change[1], 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := load(wrong, secrets...); err == nil {
			t.Errorf("%q is accepted", change[1])
		}
	}
}

// .env.example has every variable of the compose file, and none of it is a secret.
func TestEnvExample(t *testing.T) {
	b, err := os.ReadFile(composeFile(t))
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile(filepath.Join("..", ".env.example"))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(example)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			values[name] = value
		}
	}
	for _, m := range regexp.MustCompile(`\$\{(\w+):(.)([^}]*)\}`).FindAllStringSubmatch(string(b), -1) {
		name, required, rest := m[1], m[2] == "?", strings.TrimPrefix(m[3], "-")
		value, ok := values[name]
		switch {
		case !ok:
			t.Errorf("%s is not in .env.example", name)
		case required && value != "":
			t.Errorf("%s=%s: somebody will run with it", name, value)
		case !required && value != rest:
			t.Errorf("%s is %s in .env.example, %s by default", name, value, rest)
		}
		delete(values, name)
	}
	for name := range values {
		t.Errorf("%s is of no use", name)
	}
}
