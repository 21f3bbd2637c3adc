package telemetry

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"llamero/server"
)

// Bucket bounds in seconds: vLLM's, so that its dashboards' quantiles mean the same,
// and finer ones below where a small model is faster.
var (
	firstTokenBuckets = []float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}
	betweenBuckets    = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}
	requestBuckets    = []float64{0.01, 0.03, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}
)

const (
	modelLabel = "model_name"
	vllm       = "vllm:"
	own        = "llamero_"
)

// requestMetrics are what a request comes to at its end.
type requestMetrics struct {
	http                                *prometheus.CounterVec
	success                             *prometheus.CounterVec
	ttft, whole, queue, prefill, decode *prometheus.HistogramVec
}

func newRequestMetrics(r prometheus.Registerer) *requestMetrics {
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: vllm + name, Help: help, Buckets: buckets}, []string{modelLabel})
		r.MustRegister(h)
		return h
	}
	m := &requestMetrics{
		http: prometheus.NewCounterVec(prometheus.CounterOpts{Name: own + "http_requests_total",
			Help: "HTTP requests by route and status code; 499: the client went before its answer was whole."}, []string{"route", "code"}),
		success: prometheus.NewCounterVec(prometheus.CounterOpts{Name: vllm + "request_success_total",
			Help: "Answers by why they ended: stop, length, abort (the client went) or error."}, []string{modelLabel, "finished_reason"}),
		ttft:    histogram("time_to_first_token_seconds", "Time from a request's arrival to its first token.", firstTokenBuckets),
		whole:   histogram("e2e_request_latency_seconds", "Time from a request's arrival to its last byte.", requestBuckets),
		queue:   histogram("request_queue_time_seconds", "Time that a request waited for a slot.", requestBuckets),
		prefill: histogram("request_prefill_time_seconds", "Time from a request's slot to its first token.", requestBuckets),
		decode:  histogram("request_decode_time_seconds", "Time from a request's first token to its last.", requestBuckets),
	}
	r.MustRegister(m.http, m.success)
	return m
}

func (m *requestMetrics) end(r *server.Record) {
	route := r.Route
	if route == "" {
		route = "other"
	}
	m.http.WithLabelValues(route, strconv.Itoa(r.Status)).Inc()
	a := r.Answer
	if a == nil || a.Submitted.IsZero() {
		return
	}
	for _, finish := range a.Finish {
		if finish == "" {
			finish = "error"
			if r.Status == server.StatusClientGone {
				finish = "abort"
			}
		}
		m.success.WithLabelValues(r.Model, finish).Inc()
	}
	if r.TTFT > 0 {
		m.ttft.WithLabelValues(r.Model).Observe(r.TTFT.Seconds())
	}
	if r.Status < 400 {
		m.whole.WithLabelValues(r.Model).Observe(r.Duration.Seconds())
	}
	between := func(h *prometheus.HistogramVec, from, to time.Time) {
		if !from.IsZero() && !to.IsZero() {
			h.WithLabelValues(r.Model).Observe(max(0, to.Sub(from).Seconds()))
		}
	}
	between(m.queue, a.Submitted, a.Admitted)
	between(m.prefill, a.Admitted, a.First)
	between(m.decode, a.First, a.Last)
}

// buildInfo says which versions run.
func buildInfo(version, llamaCPP string) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: own + "build_info", Help: "1; its labels are the versions that run.",
		ConstLabels: prometheus.Labels{"version": version, "llama_cpp": llamaCPP}})
	g.Set(1)
	return g
}
