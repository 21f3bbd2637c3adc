package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	prometheus "github.com/prometheus/common/model"
)

var rewrite = flag.Bool("rewrite", false, "write deploy/metrics.txt anew")

// page is a page of metrics by name.
type page map[string]*dto.MetricFamily

// scrape reads a page of metrics as Prometheus does.
func scrape(t *testing.T, url, key string) (page, []byte) {
	t.Helper()
	status, header, b := fetch(t, url, key)
	if status != http.StatusOK {
		t.Fatalf("%s: %d\n%s", url, status, b)
	}
	if ct := header.Get("Content-Type"); !strings.HasPrefix(ct, "text/plain; version=0.0.4") {
		t.Errorf("%s is %q", url, ct)
	}
	parser := expfmt.NewTextParser(prometheus.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	return families, b
}

// fetch gets a page.
func fetch(t *testing.T, url, key string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(testContext(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, b
}

// value adds up the series of a metric that have the labels: values of counters and
// gauges, counts of histograms.
func (p page) value(name string, labels ...string) float64 {
	sum := 0.0
	for _, m := range p[name].GetMetric() {
		if !matches(m, labels) {
			continue
		}
		switch {
		case m.Counter != nil:
			sum += m.Counter.GetValue()
		case m.Gauge != nil:
			sum += m.Gauge.GetValue()
		case m.Histogram != nil:
			sum += float64(m.Histogram.GetSampleCount())
		}
	}
	return sum
}

// matches reports whether a series has the labels: name, value, name, value.
func matches(m *dto.Metric, labels []string) bool {
	for i := 0; i < len(labels); i += 2 {
		if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool {
			return l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}) {
			return false
		}
	}
	return true
}

// The page needs a key where keys are set, but not on a listener of its own. Counters
// grow by exactly what was asked for. What is on the page is what deploy/metrics.txt
// says, by Prometheus' own parser and linter.
func TestMetrics(t *testing.T) {
	const key = "sesame"
	g := own(t, []string{"LLAMERO_API_KEYS=alice:" + key}, "--slots", "2", "--context", "512", "--metrics-listen", "127.0.0.1:0", "--redis", startRedis(t).url)
	line, err := g.log.find(testContext(t), g.done, "serving metrics")
	if err != nil {
		t.Fatalf("%v\n%s", err, g.log)
	}
	url := line["url"].(string)
	if status, _, _ := fetch(t, g.url+"/metrics", ""); status != http.StatusUnauthorized {
		t.Errorf("without a key: %d", status)
	}
	if status, _, _ := fetch(t, strings.TrimSuffix(url, "/metrics")+"/v1/models", ""); status != http.StatusNotFound {
		t.Errorf("the metrics' listener answers for models: %d", status)
	}
	scrape(t, g.url+"/metrics", key)
	checkCounts(t, g, url, key)
	p, text := scrape(t, url, "")
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		if !strings.HasPrefix(problem.Metric, "vllm:") { // vLLM's names are vLLM's
			t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
	}
	compareWithList(t, p)
}

// checkCounts sends requests of every kind and compares what the counters grow by.
func checkCounts(t *testing.T, g *gateway, url, key string) {
	t.Helper()
	before, _ := scrape(t, url, "")
	var prompt, generated, answered float64
	for _, x := range exchanges() {
		x.header = map[string]string{"Authorization": "Bearer " + key}
		x.send(t, g)
		if x.status == http.StatusOK {
			answered++
		}
		prompt += float64(x.got.Usage.Prompt)
		generated += float64(x.got.Usage.Completion)
	}
	answers := answered + 1 // one request has two
	want := []struct {
		name   string
		labels []string
		grows  float64
	}{
		{"vllm:prompt_tokens_total", nil, prompt},
		{"vllm:prefix_cache_queries_total", nil, prompt},
		{"vllm:generation_tokens_total", nil, generated},
		{"vllm:request_success_total", []string{"finished_reason", "length"}, answers},
		{"vllm:request_success_total", nil, answers},
		{"vllm:time_to_first_token_seconds", nil, answered},
		{"vllm:e2e_request_latency_seconds", nil, answered},
		{"vllm:request_queue_time_seconds", nil, answered},
		{"vllm:request_prefill_time_seconds", nil, answered},
		{"vllm:request_decode_time_seconds", nil, answered},
		{"vllm:num_preemptions_total", nil, 0},
		{"llamero_step_failures_total", nil, 0},
		{"llamero_http_requests_total", []string{"route", chatPath, "code", "200"}, 3},
		{"llamero_http_requests_total", []string{"route", chatPath, "code", "400"}, 1},
		{"llamero_http_requests_total", []string{"route", "/v1/completions", "code", "200"}, 1},
		{"llamero_http_requests_total", nil, 5},
	}
	if prompt == 0 || generated == 0 {
		t.Fatalf("the answers tell of %v prompt and %v generated tokens", prompt, generated)
	}
	// A request is counted when its last byte is written, which may be just after the
	// client has read it.
	deadline := time.Now().Add(countTimeout)
	for {
		now, _ := scrape(t, url, "")
		var wrong []string
		grown := func(name string, labels ...string) float64 {
			return now.value(name, labels...) - before.value(name, labels...)
		}
		// An answer's first token has none before it, a guess comes with the token that confirms it.
		gaps, together := grown("vllm:inter_token_latency_seconds"), grown("vllm:spec_decode_num_accepted_tokens_total")
		if gaps+together != generated-answers {
			wrong = append(wrong, fmt.Sprintf("%v gaps and %v guessed tokens, not %v together", gaps, together, generated-answers))
		}
		for _, w := range want {
			if got := grown(w.name, w.labels...); got != w.grows {
				wrong = append(wrong, fmt.Sprintf("%s%v grew by %v, not %v", w.name, w.labels, got, w.grows))
			}
		}
		for _, name := range []string{"vllm:num_requests_running", "vllm:num_requests_waiting", "llamero_mailbox_tokens"} {
			if n := now.value(name); n != 0 {
				wrong = append(wrong, fmt.Sprintf("%s is %v at rest", name, n))
			}
		}
		if len(wrong) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(strings.Join(wrong, "\n"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// countTimeout bounds how long counters may take to tell of answers that have come.
const countTimeout = 10 * time.Second

// compareWithList compares a page with deploy/metrics.txt, or rewrites that.
func compareWithList(t *testing.T, p page) {
	t.Helper()
	file := filepath.Join("..", "..", "deploy", "metrics.txt")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var comments []string
	want := map[string]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			comments = append(comments, line)
		} else if name, _, _ := strings.Cut(line, " "); name != "" {
			want[name] = line
		}
	}
	got := map[string]string{}
	for name, family := range p {
		if _, ok := want[name]; ok || !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			got[name] = describe(family)
		}
	}
	if *rewrite {
		lines := slices.Concat(comments, slices.Sorted(maps.Values(got)))
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for name := range want {
		if got[name] == "" {
			t.Errorf("%s is in metrics.txt, not on the page", name)
		}
	}
	for name, line := range got {
		if want[name] == "" {
			t.Errorf("%q is on the page, not in metrics.txt (-rewrite adds it)", line)
		} else if want[name] != line {
			t.Errorf("the page has %q, metrics.txt %q", line, want[name])
		}
	}
}

// describe is a family's line: name, type, labels.
func describe(f *dto.MetricFamily) string {
	labels := map[string]bool{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = true
		}
	}
	line := f.GetName() + " " + strings.ToLower(f.GetType().String())
	if len(labels) > 0 {
		line += " " + strings.Join(slices.Sorted(maps.Keys(labels)), ",")
	}
	return line
}
