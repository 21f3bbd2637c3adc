package deploy

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"llamero/configs"
	"llamero/models"
)

const toolTimeout = time.Minute

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// compose is what the tests read of docker-compose.yaml.
type compose struct {
	Services map[string]struct {
		Image       string
		Environment map[string]string
		Volumes     []string
		Command     []string
		StopGrace   time.Duration `yaml:"stop_grace_period"`
	}
}

func readCompose(t *testing.T) compose {
	t.Helper()
	var c compose
	if err := yaml.Unmarshal([]byte(read(t, "docker-compose.yaml")), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFilesParse(t *testing.T) {
	parsed := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var v any
		switch filepath.Ext(path) {
		case ".yaml", ".yml":
			err = yaml.Unmarshal([]byte(read(t, path)), &v)
		case ".json":
			err = json.Unmarshal([]byte(read(t, path)), &v)
		default:
			return nil
		}
		parsed++
		if err != nil || v == nil {
			t.Errorf("%s: %v", path, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if parsed < 6 {
		t.Errorf("only %d files were found", parsed)
	}
}

// Every LLAMERO_ variable that a file names is a setting, or is used by the compose
// file itself.
func TestSettingsExist(t *testing.T) {
	known := map[string]bool{configs.EnvPrefix + "CONFIG": true, models.CacheEnv: true}
	for _, f := range configs.Fields() {
		known[f.Env] = true
	}
	composed := read(t, "docker-compose.yaml")
	variable := regexp.MustCompile(`\bLLAMERO_[A-Z_]+\b`)
	for _, file := range []string{"Dockerfile", "docker-compose.yaml", ".env.example", "llamero.service", "README.md"} {
		names := variable.FindAllString(read(t, file), -1)
		if len(names) == 0 {
			t.Errorf("%s names no setting", file)
		}
		for _, name := range names {
			if !known[name] && !strings.Contains(composed, "${"+name+":") {
				t.Errorf("%s: %s is no setting", file, name)
			}
		}
	}
}

// What the compose file gives the gateway is a whole configuration.
func TestComposeSettings(t *testing.T) {
	env := readCompose(t).Services["llamero"].Environment
	interpolated := regexp.MustCompile(`\$\{.*\}`)
	c, err := configs.Load(configs.Sources{Getenv: func(name string) (string, bool) {
		value, ok := env[name]
		return interpolated.ReplaceAllString(value, "alice:sesame"), ok
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Server.APIKeys) != 1 || c.Telemetry.MetricsListen == "" {
		t.Errorf("keys %v, metrics on %q", c.Server.APIKeys, c.Telemetry.MetricsListen)
	}
	_, port, _ := strings.Cut(c.Telemetry.MetricsListen, ":")
	if !strings.Contains(read(t, "prometheus/prometheus.yml"), "[llamero:"+port+"]") {
		t.Errorf("Prometheus does not scrape llamero:%s", port)
	}
}

// Who stops the gateway waits for longer than the gateway waits for its streams.
func TestStopTimes(t *testing.T) {
	const after = 10 * time.Second // for the exporters, and to spare
	llamero := readCompose(t).Services["llamero"]
	drain, err := time.ParseDuration(llamero.Environment["LLAMERO_DRAIN_TIMEOUT"])
	if err != nil || llamero.StopGrace < drain+after {
		t.Errorf("compose kills after %v, the drain time is %v (%v)", llamero.StopGrace, drain, err)
	}
	c, err := configs.Load(configs.Sources{File: filepath.Join("..", "configs", "server-cpu.yaml"), Getenv: func(name string) (string, bool) {
		return "alice:sesame", name == "LLAMERO_API_KEYS"
	}})
	if err != nil {
		t.Fatal(err)
	}
	unit := read(t, "llamero.service")
	stop, err := time.ParseDuration(regexp.MustCompile(`(?m)^TimeoutStopSec=(.*)$`).FindStringSubmatch(unit)[1] + "s")
	if err != nil || stop < c.Server.DrainTimeout+after {
		t.Errorf("systemd kills after %v, the drain time is %v (%v)", stop, c.Server.DrainTimeout, err)
	}
}

// systemd itself finds nothing to say of the unit.
func TestUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed: the unit is not verified")
	}
	self, err := os.Executable() // systemd wants a program that is there
	if err != nil {
		t.Fatal(err)
	}
	unit := read(t, "llamero.service")
	installed := strings.Replace(unit, "ExecStart=/usr/local/bin/llamero ", "ExecStart="+self+" ", 1)
	if installed == unit {
		t.Fatal("the unit does not start /usr/local/bin/llamero")
	}
	if out, err := verify(t, installed); err != nil || out != "" {
		t.Errorf("%v\n%s", err, out)
	}
	// The check can fail.
	if out, _ := verify(t, strings.Replace(installed, "NoNewPrivileges=yes", "NoNewPrivilege=yes", 1)); !strings.Contains(out, "NoNewPrivilege") {
		t.Errorf("a wrong key is not found: %s", out)
	}
}

func verify(t *testing.T, unit string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "llamero.service")
	if err := os.WriteFile(file, []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), toolTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemd-analyze", "verify", "--man=no", file).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// The collector takes its configurations, and the image that compose runs is of the
// release that took them.
func TestCollector(t *testing.T) {
	version := regexp.MustCompile(`go\.opentelemetry\.io/collector/otelcol v(\S+)`).FindStringSubmatch(read(t, "collector/go.mod"))[1]
	if image := readCompose(t).Services["collector"].Image; image != "otel/opentelemetry-collector:"+version {
		t.Errorf("the image is %s, the modules are v%s", image, version)
	}
	binary := os.Getenv("LLAMERO_TEST_COLLECTOR")
	if binary == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("LLAMERO_TEST_COLLECTOR names no collector (`make test` builds one)")
		}
		t.Skip("LLAMERO_TEST_COLLECTOR names no collector (`make test` builds one)")
	}
	validate := func(config string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), toolTimeout)
		defer cancel()
		cmd := exec.CommandContext(ctx, binary, "validate", "--config", config)
		cmd.Env = append(os.Environ(), "LLAMERO_TEST_SINK=http://127.0.0.1:4318")
		return cmd.CombinedOutput()
	}
	for _, config := range []string{"collector/config.yaml", "collector/config-test.yaml"} {
		if out, err := validate(config); err != nil {
			t.Errorf("%s: %v\n%s", config, err, out)
		}
	}
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	if err := os.WriteFile(wrong, []byte(strings.Replace(read(t, "collector/config.yaml"), "check_interval", "chek_interval", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := validate(wrong); err == nil {
		t.Errorf("a wrong configuration is valid: %s", out)
	}
}

// Files are mounted where those that read them look.
func TestMounts(t *testing.T) {
	services := readCompose(t).Services
	for service, want := range map[string][]string{
		"collector":  {"./collector/config.yaml:/etc/otelcol/config.yaml:ro"},
		"prometheus": {"./prometheus/prometheus.yml:/etc/prometheus/prometheus.yml:ro"},
		"grafana":    {"./grafana/provisioning:/etc/grafana/provisioning:ro", "./grafana/dashboards:/etc/grafana/dashboards:ro"},
	} {
		for _, volume := range want {
			if !slices.Contains(services[service].Volumes, volume) {
				t.Errorf("%s lacks %s", service, volume)
			}
			source, _, _ := strings.Cut(volume, ":")
			if _, err := os.Stat(source); err != nil {
				t.Error(err)
			}
		}
	}
	for service, path := range map[string]string{"collector": "/etc/otelcol/config.yaml", "prometheus": "/etc/prometheus/prometheus.yml"} {
		if !slices.ContainsFunc(services[service].Command, func(arg string) bool { return arg == "--config="+path || arg == "--config.file="+path }) {
			t.Errorf("%s is not told of %s: %v", service, path, services[service].Command)
		}
	}
	if provider := read(t, "grafana/provisioning/dashboards/llamero.yaml"); !strings.Contains(provider, "path: /etc/grafana/dashboards\n") {
		t.Error("Grafana looks for dashboards elsewhere")
	}
	home := services["grafana"].Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
	if _, err := os.Stat("grafana/dashboards/" + filepath.Base(home)); err != nil || filepath.Dir(home) != "/etc/grafana/dashboards" {
		t.Errorf("Grafana's home dashboard %s is not there: %v", home, err)
	}
}
