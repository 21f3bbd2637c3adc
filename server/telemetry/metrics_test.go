package telemetry

import (
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"llamero/cache"
	"llamero/cache/store"
	"llamero/engine"
	"llamero/scheduler/loop"
	"llamero/server"
)

// snapshot is a Group that stands still.
type snapshot struct {
	stats   loop.Stats
	engines []loop.Stats
	limits  engine.Limits
}

func (s snapshot) Stats() loop.Stats     { return s.stats }
func (s snapshot) Engines() []loop.Stats { return s.engines }
func (s snapshot) Limits() engine.Limits { return s.limits }

// redisCounts are a Redis tier's.
type redisCounts store.RedisStats

func (c redisCounts) Stats() store.RedisStats { return store.RedisStats(c) }

func none(string) string { return "" }

// busy returns a Telemetry that has seen one of everything.
func busy(t *testing.T) *Telemetry {
	t.Helper()
	tel, err := New(t.Context(), Options{Version: "v1", LlamaCPP: "v0.5.0", Metrics: true, Getenv: none})
	if err != nil {
		t.Fatal(err)
	}
	o, watch := tel.Model("m")
	watch(snapshot{
		stats: loop.Stats{Running: 3, Decoding: 2, Waiting: 4, Slots: 8, TokensInUse: 250, PoolTokens: 1000, Preemptions: 5, Unread: 6,
			Pages: cache.Stats{Pages: 40, Used: 30, Evictions: 9},
			Costs: &loop.Costs{Decode: []float64{0, 5e6, 8e6, 1e7, 1.1e7, 1.4e7}, PromptToken: 1e6}},
		engines: []loop.Stats{{Running: 2, Waiting: 4, Slots: 4, Ready: true, Requests: 9}, {Running: 1, Slots: 4, Requests: 7}},
		limits:  engine.Limits{Slots: 4, PoolTokens: 500, PageTokens: 32, Pages: 40},
	})
	o.Admitted(100, 60)
	o.Lookup(96, 32)
	redis, watchRedis := tel.Redis("m")
	redis.Get(20*time.Millisecond, 1, nil)
	redis.Put(time.Millisecond, 500, io.ErrUnexpectedEOF)
	watchRedis(redisCounts{Hits: 1, Puts: 2, BytesRead: 300, BytesWritten: 600, Errors: 3, Timeouts: 4, Unavailable: 5,
		Bad: map[string]uint64{"mac": 6}, Dropped: map[string]uint64{"queue": 7}, Queued: 8, Open: true})
	o.Tokens(1, -1)
	o.Tokens(2, 30*time.Millisecond)
	o.Pass(&loop.Pass{Kind: engine.PassDecode, Rows: 3, Idle: 1, Tokens: 3, Took: 10 * time.Millisecond, Expected: 8 * time.Millisecond})
	o.Pass(&loop.Pass{Kind: engine.PassPrefill, Rows: 1, Tokens: 64, Took: 80 * time.Millisecond})
	o.Step(&loop.Step{Took: 95 * time.Millisecond, Moved: 40, Edit: 5 * time.Millisecond,
		Edits: []engine.Edit{{Kind: engine.EditDrop}, {Kind: engine.EditMove}}})
	o.Step(&loop.Step{Took: time.Millisecond, Err: io.ErrUnexpectedEOF})
	end := tel.Requests().End
	begun := time.Now()
	end(&server.Record{Method: "POST", Route: "/v1/chat/completions", Status: 200, Model: "m", TTFT: 300 * time.Millisecond, Duration: 2 * time.Second,
		Answer: &server.Answer{Submitted: begun, Admitted: begun.Add(time.Second / 4), First: begun.Add(time.Second / 2), Last: begun.Add(time.Second), Finish: []string{"stop", "length"}}})
	end(&server.Record{Method: "POST", Route: "/v1/chat/completions", Status: server.StatusClientGone, Model: "m", Answer: &server.Answer{Submitted: begun, Finish: []string{""}}})
	end(&server.Record{Method: "POST", Route: "/v1/chat/completions", Status: 500, Model: "m", Answer: &server.Answer{Submitted: begun, Finish: []string{""}}})
	end(&server.Record{Method: "GET", Path: "/what/ever", Status: 404})
	return tel
}

// page reads the metrics as Prometheus would.
func page(t *testing.T, tel *Telemetry) (map[string]*dto.MetricFamily, string) {
	t.Helper()
	w := httptest.NewRecorder()
	tel.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(w.Body.String()))
	if err != nil {
		t.Fatal(err)
	}
	return families, w.Body.String()
}

// value finds a sample by name and labels: name{label="value",…} as on the page,
// of a histogram its name_count or name_sum.
func has(t *testing.T, text string, lines ...string) {
	t.Helper()
	all := strings.Split(text, "\n")
	for _, line := range lines {
		if !slices.Contains(all, line) {
			name, _, _ := strings.Cut(line, "{")
			var near []string
			for _, l := range all {
				if strings.HasPrefix(l, name) && !strings.Contains(l, "_bucket") {
					near = append(near, l)
				}
			}
			t.Errorf("no line %q; there are:\n%s", line, strings.Join(near, "\n"))
		}
	}
}

func TestPage(t *testing.T) {
	families, text := page(t, busy(t))
	const m = `{model_name="m"}`
	has(t, text,
		`vllm:num_requests_running`+m+` 3`,
		`vllm:num_requests_waiting`+m+` 4`,
		`vllm:kv_cache_usage_perc`+m+` 0.25`,
		`vllm:cache_config_info{block_size="32",model_name="m",num_gpu_blocks="40"} 1`,
		`vllm:num_preemptions_total`+m+` 5`,
		`vllm:prompt_tokens_total`+m+` 100`,
		`vllm:generation_tokens_total`+m+` 3`,
		`vllm:prefix_cache_queries_total`+m+` 100`,
		`vllm:prefix_cache_hits_total`+m+` 60`,
		`vllm:external_prefix_cache_queries_total`+m+` 96`,
		`vllm:external_prefix_cache_hits_total`+m+` 32`,
		`llamero_redis_seconds_sum{model_name="m",op="get"} 0.02`,
		`llamero_redis_seconds_count{model_name="m",op="put"} 1`,
		`llamero_redis_pages_total{model_name="m",op="get"} 1`,
		`llamero_redis_pages_total{model_name="m",op="put"} 2`,
		`llamero_redis_bytes_total{model_name="m",op="get"} 300`,
		`llamero_redis_bytes_total{model_name="m",op="put"} 600`,
		`llamero_redis_errors_total{kind="error",model_name="m"} 3`,
		`llamero_redis_errors_total{kind="timeout",model_name="m"} 4`,
		`llamero_redis_errors_total{kind="unavailable",model_name="m"} 5`,
		`llamero_redis_errors_total{kind="mac",model_name="m"} 6`,
		`llamero_redis_dropped_pages_total{model_name="m",reason="queue"} 7`,
		`llamero_redis_queued_pages`+m+` 8`,
		`llamero_redis_up`+m+` 0`,
		`vllm:inter_token_latency_seconds_count`+m+` 1`,
		`vllm:inter_token_latency_seconds_sum`+m+` 0.03`,
		`vllm:time_to_first_token_seconds_sum`+m+` 0.3`,
		`vllm:e2e_request_latency_seconds_sum`+m+` 2`,
		`vllm:e2e_request_latency_seconds_count`+m+` 1`,
		`vllm:request_queue_time_seconds_sum`+m+` 0.25`,
		`vllm:request_prefill_time_seconds_sum`+m+` 0.25`,
		`vllm:request_decode_time_seconds_sum`+m+` 0.5`,
		`vllm:request_success_total{finished_reason="stop",model_name="m"} 1`,
		`vllm:request_success_total{finished_reason="length",model_name="m"} 1`,
		`vllm:request_success_total{finished_reason="abort",model_name="m"} 1`,
		`vllm:request_success_total{finished_reason="error",model_name="m"} 1`,
		`llamero_slots{model_name="m",state="decode"} 2`,
		`llamero_slots{model_name="m",state="prefill"} 1`,
		`llamero_slots{model_name="m",state="free"} 5`,
		`llamero_cache_pages{model_name="m",state="used"} 30`,
		`llamero_cache_pages{model_name="m",state="free"} 10`,
		`llamero_cache_evictions_total`+m+` 9`,
		`llamero_mailbox_tokens`+m+` 6`,
		`llamero_cost_decode_seconds{model_name="m",rows="1"} 0.005`,
		`llamero_cost_decode_seconds{model_name="m",rows="4"} 0.011`,
		`llamero_cost_decode_seconds{model_name="m",rows="5"} 0.014`,
		`llamero_cost_prompt_token_seconds`+m+` 0.001`,
		`llamero_engine_up{engine="0",model_name="m"} 1`,
		`llamero_engine_up{engine="1",model_name="m"} 0`,
		`llamero_engine_answers{engine="0",model_name="m",state="running"} 2`,
		`llamero_engine_answers{engine="0",model_name="m",state="waiting"} 4`,
		`llamero_engine_answers{engine="1",model_name="m",state="running"} 1`,
		`llamero_engine_requests_total{engine="1",model_name="m"} 7`,
		`llamero_pass_seconds_sum{kind="decode",model_name="m"} 0.01`,
		`llamero_pass_tokens_sum{kind="prefill",model_name="m"} 64`,
		`llamero_cost_ratio_sum{kind="decode",model_name="m"} 1.25`,
		`llamero_cost_ratio_count{kind="prefill",model_name="m"} 0`,
		`llamero_idle_rows_total`+m+` 1`,
		`llamero_edits_total{kind="move",model_name="m"} 1`,
		`llamero_edits_total{kind="fork",model_name="m"} 0`,
		`llamero_moved_tokens_total`+m+` 40`,
		`llamero_edit_seconds_total`+m+` 0.005`,
		`llamero_step_seconds_count`+m+` 2`,
		`llamero_step_failures_total`+m+` 1`,
		`llamero_http_requests_total{code="200",route="/v1/chat/completions"} 1`,
		`llamero_http_requests_total{code="499",route="/v1/chat/completions"} 1`,
		`llamero_http_requests_total{code="404",route="other"} 1`,
		`llamero_build_info{llama_cpp="v0.5.0",version="v1"} 1`,
	)
	for name, f := range families {
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
	}
	if strings.Contains(text, "what/ever") {
		t.Error("a path that a client made up is on the page")
	}
}

// The names under vLLM's prefix are vLLM's own, colons and all; ours are linted.
func TestNamesLint(t *testing.T) {
	families, _ := page(t, busy(t))
	for name, f := range families {
		if !strings.HasPrefix(name, own) {
			continue
		}
		problems, err := promlint.NewWithMetricFamilies([]*dto.MetricFamily{f}).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestNoMetrics(t *testing.T) {
	tel, err := New(t.Context(), Options{Getenv: none})
	if err != nil {
		t.Fatal(err)
	}
	o, watch := tel.Model("m")
	watch(nil)
	redis, watchRedis := tel.Redis("m")
	watchRedis(nil)
	if redis.Get != nil || redis.Put != nil {
		t.Error("metrics are off, and Redis is observed")
	}
	if tel.Handler() != nil || tel.Requests().End != nil || tel.Requests().Begin != nil || o.Pass != nil || o.Step != nil {
		t.Error("metrics are off, and something is observed")
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// What the loop calls for every token must not allocate.
func TestObserverAllocations(t *testing.T) {
	tel := busy(t)
	o, _ := tel.Model("other")
	pass := &loop.Pass{Kind: engine.PassDecode, Rows: 3, Idle: 1, Tokens: 3, Took: 10, Expected: 8}
	step := &loop.Step{Took: 95, Moved: 40, Edit: 5, Edits: []engine.Edit{{Kind: engine.EditDrop}, {Kind: engine.EditMove}}}
	if n := testing.AllocsPerRun(100, func() {
		o.Pass(pass)
		o.Step(step)
		o.Tokens(1, time.Millisecond)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserver(b *testing.B) {
	tel, err := New(b.Context(), Options{Metrics: true, Getenv: none})
	if err != nil {
		b.Fatal(err)
	}
	o, _ := tel.Model("m")
	pass := &loop.Pass{Kind: engine.PassDecode, Rows: 32, Tokens: 32, Took: 10, Expected: 8}
	step := &loop.Step{Took: 95}
	b.ReportAllocs()
	for b.Loop() { // a step of 32 streams
		o.Pass(pass)
		for range 32 {
			o.Tokens(1, time.Millisecond)
		}
		o.Step(step)
	}
}
