package telemetry

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"llamero/engine"
	"llamero/server"
	"llamero/server/openai"
)

// recorder keeps spans in memory.
func recorder(t *testing.T, opts ...sdktrace.TracerProviderOption) (*otel, *tracetest.InMemoryExporter) {
	t.Helper()
	exp := tracetest.NewInMemoryExporter()
	p := sdktrace.NewTracerProvider(append(opts, sdktrace.WithSyncer(exp))...)
	return &otel{tracer: p.Tracer(scope), where: []attribute.KeyValue{attribute.String("server.address", "127.0.0.1"), attribute.Int("server.port", 8080)}}, exp
}

// chat is a record of a streamed chat that went well.
func chat() *server.Record {
	start := time.Now().Add(-10 * time.Second)
	seed := uint64(7)
	return &server.Record{
		ID: "req_1", Method: "POST", Path: "/v1/chat/completions", Route: "/v1/chat/completions", Status: 200, Model: "m", Key: "alice", Stream: true,
		PromptTokens: 100, CachedTokens: 60, OutputTokens: 21, Start: start, TTFT: 3 * time.Second, Duration: 9 * time.Second,
		Answer: &server.Answer{
			Operation: "chat", ID: "chatcmpl-1", Finish: []string{"stop"},
			Params: openai.Params{N: 1, Stream: true, MaxTokens: 50, Seed: &seed, Stop: []string{"END"}, Sampling: engine.Sampling{Temperature: 0.5, TopP: 0.9, TopK: 40}},
			Began:  start.Add(time.Second / 2), Submitted: start.Add(time.Second), Admitted: start.Add(2 * time.Second),
			First: start.Add(3 * time.Second), Last: start.Add(8 * time.Second),
			Lookups: []server.Lookup{
				{Tier: "remote", Began: start.Add(time.Second), Ended: start.Add(1500 * time.Millisecond), Asked: 64, Found: 32},
				{Tier: "host", Began: start.Add(2 * time.Second), Ended: start.Add(2 * time.Second), Asked: 100, Found: 60},
			},
		},
	}
}

func attrs(s tracetest.SpanStub) map[string]attribute.Value {
	out := map[string]attribute.Value{}
	for _, a := range s.Attributes {
		out[string(a.Key)] = a.Value
	}
	return out
}

// run takes a record through begin and end, with a caller's trace, and returns the
// spans by name and the answer's headers.
func run(t *testing.T, o *otel, exp *tracetest.InMemoryExporter, r *server.Record, traceparent string) (map[string]tracetest.SpanStub, http.Header) {
	t.Helper()
	in, out := http.Header{}, http.Header{}
	in.Set("traceparent", traceparent)
	r.Trace = o.begin(r, in.Get, out.Set)
	o.end(r)
	spans := map[string]tracetest.SpanStub{}
	for _, s := range exp.GetSpans() {
		spans[s.Name] = s
	}
	exp.Reset()
	return spans, out
}

const caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestSpanTree(t *testing.T) {
	o, exp := recorder(t)
	r := chat()
	spans, out := run(t, o, exp, r, caller)
	server, answer := spans["POST /v1/chat/completions"], spans["chat m"]
	if len(spans) != 5 {
		t.Fatalf("%d spans: %v", len(spans), spans)
	}
	if got := server.SpanContext.TraceID().String(); got != "0af7651916cd43dd8448eb211c80319c" || server.Parent.SpanID().String() != "b7ad6b7169203331" {
		t.Errorf("trace %s below %s", got, server.Parent.SpanID())
	}
	if want := "00-0af7651916cd43dd8448eb211c80319c-" + server.SpanContext.SpanID().String() + "-01"; out.Get("traceparent") != want {
		t.Errorf("traceparent out %q, want %q", out.Get("traceparent"), want)
	}
	if server.SpanKind != trace.SpanKindServer || answer.SpanKind != trace.SpanKindInternal {
		t.Errorf("kinds %s, %s", server.SpanKind, answer.SpanKind)
	}
	if answer.Parent.SpanID() != server.SpanContext.SpanID() {
		t.Error("the answer is not below the request")
	}
	for name, part := range map[string][2]time.Time{
		"queue":   {r.Answer.Submitted, r.Answer.Admitted},
		"prefill": {r.Answer.Admitted, r.Answer.First},
		"decode":  {r.Answer.First, r.Answer.Last},
	} {
		s := spans[name]
		if s.Parent.SpanID() != answer.SpanContext.SpanID() || !s.StartTime.Equal(part[0]) || !s.EndTime.Equal(part[1]) {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if end := r.Start.Add(r.Duration); !server.EndTime.Equal(end) || !answer.EndTime.Equal(end) || !server.StartTime.Equal(r.Start) {
		t.Error("the spans do not end with the last byte")
	}
	if len(answer.Events) != 2 {
		t.Fatalf("events: %v", answer.Events)
	}
	for i, l := range r.Answer.Lookups {
		e := answer.Events[i]
		want := []attribute.KeyValue{
			attribute.String("llamero.lookup.tier", l.Tier), attribute.Int("llamero.lookup.asked_tokens", l.Asked),
			attribute.Int("llamero.lookup.found_tokens", l.Found), attribute.Float64("llamero.lookup.duration", l.Ended.Sub(l.Began).Seconds()),
		}
		if e.Name != "prefix lookup" || !e.Time.Equal(l.Ended) || !slices.Equal(e.Attributes, want) {
			t.Errorf("event %s at %v: %v, want %v", e.Name, e.Time, e.Attributes, want)
		}
	}
	want := map[string]attribute.Value{
		"gen_ai.operation.name": attribute.StringValue("chat"), "gen_ai.provider.name": attribute.StringValue("llamero"),
		"gen_ai.request.model": attribute.StringValue("m"), "gen_ai.request.max_tokens": attribute.IntValue(50),
		"gen_ai.request.temperature": attribute.Float64Value(0.5), "gen_ai.request.top_k": attribute.IntValue(40),
		"gen_ai.request.seed": attribute.IntValue(7), "gen_ai.request.stream": attribute.BoolValue(true),
		"gen_ai.request.stop_sequences": attribute.StringSliceValue([]string{"END"}),
		"gen_ai.response.id":            attribute.StringValue("chatcmpl-1"), "gen_ai.response.model": attribute.StringValue("m"),
		"gen_ai.response.finish_reasons": attribute.StringSliceValue([]string{"stop"}),
		"gen_ai.usage.input_tokens":      attribute.IntValue(100), "gen_ai.usage.output_tokens": attribute.IntValue(21),
		"gen_ai.usage.cache_read.input_tokens": attribute.IntValue(60), "server.port": attribute.IntValue(8080),
	}
	got := attrs(answer)
	for k, v := range want {
		if got[k] != v && got[k].String() != v.String() {
			t.Errorf("%s: %s, want %s", k, got[k].String(), v.String())
		}
	}
	for k := range got {
		if strings.HasSuffix(k, ".messages") || k == "error.type" || k == "gen_ai.request.choice.count" {
			t.Errorf("%s is there", k)
		}
	}
	if got := attrs(server); got["http.route"].AsString() != "/v1/chat/completions" || got["http.response.status_code"].AsInt64() != 200 || got["llamero.request.id"].AsString() != "req_1" {
		t.Errorf("attributes of the request: %v", got)
	}
}

func TestSpansOfFailures(t *testing.T) {
	tests := []struct {
		name         string
		change       func(*server.Record)
		spans        []string
		error        string
		server, chat codes.Code
	}{
		{"a body that is wrong", func(r *server.Record) { r.Status, r.Code, r.Answer = 400, "invalid_request_error", nil },
			[]string{"POST /v1/chat/completions"}, "invalid_request_error", codes.Unset, codes.Unset},
		{"refused for load", func(r *server.Record) {
			r.Status, r.Code, r.PromptTokens = 429, "rate_limit_exceeded", 0
			r.Answer.Submitted, r.Answer.Admitted, r.Answer.First, r.Answer.Last = time.Time{}, time.Time{}, time.Time{}, time.Time{}
		}, []string{"POST /v1/chat/completions", "chat m"}, "rate_limit_exceeded", codes.Unset, codes.Error},
		{"the client went while it decoded", func(r *server.Record) {
			r.Status, r.Answer.Last, r.Answer.Finish = server.StatusClientGone, time.Time{}, []string{""}
		}, []string{"POST /v1/chat/completions", "chat m", "decode", "prefill", "queue"}, "client_gone", codes.Unset, codes.Error},
		{"expired in the queue", func(r *server.Record) {
			r.Status, r.Code = 503, "overloaded"
			r.Answer.Admitted, r.Answer.First, r.Answer.Last = time.Time{}, time.Time{}, time.Time{}
		}, []string{"POST /v1/chat/completions", "chat m", "queue"}, "overloaded", codes.Error, codes.Error},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o, exp := recorder(t)
			r := chat()
			test.change(r)
			spans, _ := run(t, o, exp, r, "")
			var names []string
			for name, s := range spans {
				names = append(names, name)
				if s.EndTime.Before(s.StartTime) || s.EndTime.After(r.Start.Add(r.Duration)) {
					t.Errorf("%s is from %s to %s", name, s.StartTime, s.EndTime)
				}
			}
			if slices.Sort(names); !slices.Equal(names, test.spans) {
				t.Fatalf("spans %v, want %v", names, test.spans)
			}
			s := spans["POST /v1/chat/completions"]
			if got := attrs(s)["error.type"].AsString(); got != test.error || s.Status.Code != test.server {
				t.Errorf("%q, %s", got, s.Status.Code)
			}
			if c := spans["chat m"]; c.Status.Code != test.chat {
				t.Errorf("the answer's status is %s", c.Status.Code)
			}
		})
	}
}

func TestContent(t *testing.T) {
	o, exp := recorder(t)
	r := chat()
	r.Answer.Messages = []openai.Message{{Role: "system", Content: "Be brief."}, {Role: "user", Content: `Say "hi"`}}
	r.Answer.Texts = []string{"hi"}
	spans, _ := run(t, o, exp, r, "")
	got := attrs(spans["chat m"])
	var in, out []map[string]any
	if err := json.Unmarshal([]byte(got["gen_ai.input.messages"].AsString()), &in); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(got["gen_ai.output.messages"].AsString()), &out); err != nil {
		t.Fatal(err)
	}
	text := func(m map[string]any) any { return m["parts"].([]any)[0].(map[string]any)["content"] }
	if len(in) != 2 || in[1]["role"] != "user" || text(in[1]) != `Say "hi"` {
		t.Errorf("in: %v", in)
	}
	if len(out) != 1 || out[0]["role"] != "assistant" || out[0]["finish_reason"] != "stop" || text(out[0]) != "hi" {
		t.Errorf("out: %v", out)
	}
}

// A trace that its caller does not sample costs no spans, and still goes on.
func TestUnsampled(t *testing.T) {
	o, exp := recorder(t)
	spans, out := run(t, o, exp, chat(), strings.TrimSuffix(caller, "01")+"00")
	if len(spans) != 0 || !strings.HasPrefix(out.Get("traceparent"), "00-0af7651916cd43dd8448eb211c80319c-") || !strings.HasSuffix(out.Get("traceparent"), "-00") {
		t.Errorf("%d spans, traceparent %q", len(spans), out.Get("traceparent"))
	}
}

func TestMalformedParentStartsATrace(t *testing.T) {
	o, exp := recorder(t)
	spans, _ := run(t, o, exp, chat(), "00-not-a-trace")
	if s := spans["POST /v1/chat/completions"]; !s.SpanContext.IsValid() || s.Parent.IsValid() {
		t.Errorf("%v", s)
	}
}

func TestGenAIMetrics(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	g, err := newGenAI(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter(scope))
	if err != nil {
		t.Fatal(err)
	}
	o := &otel{metrics: g}
	o.end(chat())
	failed := chat()
	failed.Status, failed.Code, failed.TTFT, failed.Answer.First = 503, "overloaded", 0, time.Time{}
	o.end(failed)
	o.end(&server.Record{Status: 404}) // no answer was asked for
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &rm); err != nil {
		t.Fatal(err)
	}
	got := map[string][]metricdata.HistogramDataPoint[float64]{}
	for _, m := range rm.ScopeMetrics[0].Metrics {
		if m.Unit != "s" {
			t.Errorf("%s is in %q", m.Name, m.Unit)
		}
		got[m.Name] = m.Data.(metricdata.Histogram[float64]).DataPoints
	}
	one := func(name string, points int, sum float64) metricdata.HistogramDataPoint[float64] {
		t.Helper()
		p := got[name]
		if len(p) != points {
			t.Fatalf("%s has %d points", name, len(p))
		}
		i := slices.IndexFunc(p, func(p metricdata.HistogramDataPoint[float64]) bool { return !p.Attributes.HasValue("error.type") })
		if p[i].Count != 1 || p[i].Sum != sum {
			t.Errorf("%s: %d, %v; want one of %v", name, p[i].Count, p[i].Sum, sum)
		}
		return p[i]
	}
	one("gen_ai.server.time_to_first_token", 1, 3)
	one("gen_ai.server.time_per_output_token", 1, 0.25) // 20 tokens in 5 s
	p := one("gen_ai.server.request.duration", 2, 9)
	if v, _ := p.Attributes.Value("gen_ai.operation.name"); v.AsString() != "chat" {
		t.Errorf("operation %q", v.AsString())
	}
}

func TestEnvironment(t *testing.T) {
	tests := []struct {
		name            string
		env             map[string]string
		traces, metrics bool
		err             string
	}{
		{"nothing said, nothing sent", nil, false, false, ""},
		{"an endpoint", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, true, true, ""},
		{"grpc", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, true, true, ""},
		{"traces only", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, true, false, ""},
		{"metrics only", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"}, false, true, ""},
		{"disabled", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}, false, false, ""},
		{"an unknown exporter", map[string]string{"OTEL_TRACES_EXPORTER": "pigeon"}, false, false, "pigeon"},
		{"an unknown protocol", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"}, false, false, "smoke"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "3600000") // nobody listens there
			for k, v := range test.env {
				t.Setenv(k, v)
			}
			tel, err := New(t.Context(), Options{Address: "127.0.0.1:8080", Getenv: func(k string) string { return test.env[k] }})
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			traces := tel.otel != nil && tel.otel.tracer != nil
			metrics := tel.otel != nil && tel.otel.metrics != nil
			if traces != test.traces || metrics != test.metrics {
				t.Errorf("traces %v, metrics %v", traces, metrics)
			}
			if (tel.Requests().Begin != nil) != traces {
				t.Error("Begin is there without traces, or missing with them")
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // nobody listens: do not wait for them
			_ = tel.Shutdown(ctx)
		})
	}
}
