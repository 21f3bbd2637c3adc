package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// collector is a running OpenTelemetry Collector that sends what it gets on to us.
type collector struct {
	*process
	grpc, http string // host:port of its OTLP receivers

	mu  sync.Mutex
	got map[string][][]byte // bodies by path
}

// Paths of OTLP over HTTP.
const (
	tracesPath  = "/v1/traces"
	metricsPath = "/v1/metrics"
)

// maxExport bounds what a collector sends at once.
const maxExport = 16 << 20

// collect starts a collector on free ports.
func collect(t *testing.T) *collector {
	t.Helper()
	binary := os.Getenv("LLAMERO_TEST_COLLECTOR")
	need(t, binary != "", "LLAMERO_TEST_COLLECTOR names no OpenTelemetry Collector")
	c := &collector{got: map[string][][]byte{}}
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxExport))
		if err != nil || r.Header.Get("Content-Type") != "application/json" {
			http.Error(w, fmt.Sprint(r.Header, err), http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		c.got[r.URL.Path] = append(c.got[r.URL.Path], b)
		c.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(sink.Close)
	var err error
	c.process, err = launch([]string{"LLAMERO_TEST_SINK=" + sink.URL}, binary,
		"--config", filepath.Join("..", "..", "deploy", "collector", "config-test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for msg, addr := range map[string]*string{"Starting GRPC server": &c.grpc, "Starting HTTP server": &c.http,
		"Everything is ready. Begin running and processing data.": nil} {
		line, err := c.log.find(ctx, c.done, msg)
		if err != nil {
			t.Fatalf("the collector does not start: %v\n%s", err, c.log)
		}
		if addr != nil {
			*addr = line["endpoint"].(string)
		}
	}
	return c
}

// each decodes the bodies that came to a path. There must be one.
func each[T any](t *testing.T, c *collector, path string, f func(batch *T)) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, body := range c.got[path] {
		var batch T
		if err := json.Unmarshal(body, &batch); err != nil {
			t.Fatalf("%s: %v\n%s", path, err, body)
		}
		f(&batch)
	}
	if len(c.got[path]) == 0 {
		t.Fatalf("nothing came to %s\n%s", path, c.log)
	}
}

// holds reports whether any body has the text.
func (c *collector) holds(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, bodies := range c.got {
		if slices.ContainsFunc(bodies, func(b []byte) bool { return bytes.Contains(b, []byte(text)) }) {
			return true
		}
	}
	return false
}

// span is a span as the collector received it.
type span struct {
	trace, id, parent string
	name              string
	kind              int
	start, end        time.Time
	attr              map[string]any
	status            int
	service           string // of its resource
	events            []event
}

type event struct {
	name string
	at   time.Time
	attr map[string]any
}

// Kinds and statuses of spans, as OTLP numbers them.
const (
	kindInternal = 1
	kindServer   = 2
	statusError  = 2
)

// otlpTraces and otlpMetrics are what the tests read of OTLP's JSON.
type otlpTraces struct {
	ResourceSpans []struct {
		Resource   struct{ Attributes attributes }
		ScopeSpans []struct {
			Spans []struct {
				TraceID, SpanID, ParentSpanID      string
				Name                               string
				Kind                               int
				StartTimeUnixNano, EndTimeUnixNano nanos
				Attributes                         attributes
				Status                             struct{ Code int }
				Events                             []struct {
					TimeUnixNano nanos
					Name         string
					Attributes   attributes
				}
			}
		}
	}
}

type otlpMetrics struct {
	ResourceMetrics []struct {
		ScopeMetrics []struct {
			Metrics []struct {
				Name, Unit string
				Histogram  struct {
					AggregationTemporality int
					DataPoints             []struct {
						Count        counts
						Sum          float64
						BucketCounts []counts
						Attributes   attributes
					}
				}
			}
		}
	}
}

// spans are the spans that have come.
func (c *collector) spans(t *testing.T) []span {
	t.Helper()
	var out []span
	each(t, c, tracesPath, func(batch *otlpTraces) {
		for _, r := range batch.ResourceSpans {
			service, _ := r.Resource.Attributes.value()["service.name"].(string)
			for _, scope := range r.ScopeSpans {
				for _, s := range scope.Spans {
					got := span{trace: s.TraceID, id: s.SpanID, parent: s.ParentSpanID, name: s.Name, kind: s.Kind,
						start: time.Time(s.StartTimeUnixNano), end: time.Time(s.EndTimeUnixNano),
						attr: s.Attributes.value(), status: s.Status.Code, service: service}
					for _, e := range s.Events {
						got.events = append(got.events, event{e.Name, time.Time(e.TimeUnixNano), e.Attributes.value()})
					}
					out = append(out, got)
				}
			}
		}
	})
	return out
}

// point is one series of a histogram.
type point struct {
	name, unit string
	count      uint64
	sum        float64
	buckets    uint64 // the sum of all buckets' counts
	attr       map[string]any
}

// points are the latest values of the histograms' series that have come.
func (c *collector) points(t *testing.T) map[string]point {
	t.Helper()
	const cumulative = 2
	out := map[string]point{}
	each(t, c, metricsPath, func(batch *otlpMetrics) {
		for _, r := range batch.ResourceMetrics {
			for _, scope := range r.ScopeMetrics {
				for _, m := range scope.Metrics {
					if m.Histogram.AggregationTemporality != cumulative {
						t.Errorf("%s has temporality %d", m.Name, m.Histogram.AggregationTemporality)
					}
					for _, d := range m.Histogram.DataPoints {
						p := point{name: m.Name, unit: m.Unit, count: uint64(d.Count), sum: d.Sum, attr: d.Attributes.value()}
						for _, n := range d.BucketCounts {
							p.buckets += uint64(n)
						}
						out[fmt.Sprint(m.Name, p.attr)] = p // maps print sorted
					}
				}
			}
		}
	})
	return out
}

// OTLP's JSON writes 64-bit numbers as text.
type (
	counts uint64
	nanos  time.Time
)

func (c *counts) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseUint(unquote(b), 10, 64)
	*c = counts(n)
	return err
}

func (n *nanos) UnmarshalJSON(b []byte) error {
	ns, err := strconv.ParseInt(unquote(b), 10, 64)
	*n = nanos(time.Unix(0, ns))
	return err
}

func unquote(b []byte) string {
	if len(b) >= 2 && b[0] == '"' {
		return string(b[1 : len(b)-1])
	}
	return string(b)
}

// attributes are OTLP's list of keys and tagged values.
type attributes []struct {
	Key   string
	Value anyValue
}

type anyValue struct {
	StringValue *string
	BoolValue   *bool
	IntValue    *json.Number
	DoubleValue *float64
	ArrayValue  *struct{ Values []anyValue }
}

func (a attributes) value() map[string]any {
	out := make(map[string]any, len(a))
	for _, kv := range a {
		out[kv.Key] = kv.Value.value()
	}
	return out
}

// value is a string, bool, int64, float64 or []any.
func (v anyValue) value() any {
	switch {
	case v.StringValue != nil:
		return *v.StringValue
	case v.BoolValue != nil:
		return *v.BoolValue
	case v.IntValue != nil:
		n, err := v.IntValue.Int64()
		if err != nil {
			return err
		}
		return n
	case v.DoubleValue != nil:
		return *v.DoubleValue
	case v.ArrayValue != nil:
		out := make([]any, len(v.ArrayValue.Values))
		for i, e := range v.ArrayValue.Values {
			out[i] = e.value()
		}
		return out
	}
	return nil
}
