package lint

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
)

// Prometheus takes its configuration, and scrapes what the compose file runs.
func TestPrometheusConfig(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "prometheus", "prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(string(b), promslog.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	p, err := load(composeFile(t), secrets...)
	if err != nil {
		t.Fatal(err)
	}
	// The image is of the release whose parser this is.
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`github\.com/prometheus/prometheus v0\.(\d)(\d\d)\.(\d+)\n`).FindStringSubmatch(string(mod))
	minor, err := strconv.Atoi(version[2])
	if err != nil {
		t.Fatal(err)
	}
	if want, got := fmt.Sprintf("prom/prometheus:v%s.%d.%s", version[1], minor, version[3]), p.Services["prometheus"].Image; got != want {
		t.Errorf("the image is %s, the module is of %s", got, want)
	}
	for _, job := range c.ScrapeConfigs {
		if _, ok := p.Services[job.JobName]; !ok {
			t.Errorf("job %s is no service", job.JobName)
		}
	}
	if len(c.ScrapeConfigs) != 3 {
		t.Errorf("%d jobs", len(c.ScrapeConfigs))
	}
	if _, err := config.Load(strings.Replace(string(b), "static_configs", "static_config", 1), promslog.NewNopLogger()); err == nil {
		t.Error("a wrong key is accepted")
	}
}
