package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"llamero/engine"
	"llamero/scheduler/loop"
)

// The label values of passes and of edits.
var (
	passKinds = map[engine.PassKind]string{engine.PassDecode: "decode", engine.PassPrefill: "prefill"}
	editKinds = map[engine.EditKind]string{engine.EditOpen: "open", engine.EditTrim: "trim", engine.EditMove: "move",
		engine.EditFork: "fork", engine.EditDrop: "drop", engine.EditRestore: "restore", engine.EditSave: "save"}
)

// passMetrics are of passes of one kind, their labels bound: a loop reports some
// thousand passes a second.
type passMetrics struct {
	seconds, tokens, ratio prometheus.Observer
}

// modelMetrics are what loops report as it happens.
type modelMetrics struct {
	prompt, generated prometheus.Counter
	queries, hits     prometheus.Counter
	asked, found      prometheus.Counter // of the remote tier
	between           prometheus.Observer

	passes                map[engine.PassKind]passMetrics
	step                  prometheus.Observer
	idle                  prometheus.Counter
	edits                 map[engine.EditKind]prometheus.Counter
	moved, editing, fails prometheus.Counter
}

func newModelMetrics(r prometheus.Registerer, alias string) *modelMetrics {
	r = prometheus.WrapRegistererWith(prometheus.Labels{modelLabel: alias}, r)
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
		r.MustRegister(h)
		return h
	}
	byKind := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: own + name, Help: help, Buckets: buckets}, []string{"kind"})
		r.MustRegister(h)
		return h
	}
	m := &modelMetrics{
		prompt:    counter(vllm+"prompt_tokens_total", "Tokens of the prompts of requests that got a slot."),
		generated: counter(vllm+"generation_tokens_total", "Tokens generated."),
		queries:   counter(vllm+"prefix_cache_queries_total", "Prompt tokens that were looked up."),
		hits:      counter(vllm+"prefix_cache_hits_total", "Of those, tokens that needed no computing."),
		asked:     counter(vllm+"external_prefix_cache_queries_total", "Prompt tokens that the tier behind this process's memory was asked for."),
		found:     counter(vllm+"external_prefix_cache_hits_total", "Of those, tokens that it had."),
		between:   histogram(vllm+"inter_token_latency_seconds", "Time between an answer's tokens, as they left the engine; those that came together count once.", betweenBuckets),

		passes: map[engine.PassKind]passMetrics{},
		step:   histogram(own+"step_seconds", "Time of a step: edits, decode passes, prompt chunks.", betweenBuckets),
		idle:   counter(own+"idle_rows_total", "Rows that filled a hole between slots or rounded a pass up to a cheaper width."),
		edits:  map[engine.EditKind]prometheus.Counter{},
		moved:  counter(own+"moved_tokens_total", "Tokens whose KV was copied: from slot to slot, into pages and out of them."),
		editing: counter(own+"edit_seconds_total",
			"Time that edits of slots took: moves, forks, trims, drops, pages read and written."),
		fails: counter(own+"step_failures_total", "Steps that the engine failed; their requests are computed again."),
	}
	seconds := byKind("pass_seconds", "Time of a pass.", betweenBuckets)
	tokens := byKind("pass_tokens", "Tokens that a pass computed for requests: a decode pass's rows, a prompt chunk's length.", prometheus.ExponentialBuckets(1, 2, 12))
	ratio := byKind("cost_ratio", "Measured over predicted time of a pass.", []float64{0.25, 0.5, 0.67, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 4})
	for kind, name := range passKinds {
		m.passes[kind] = passMetrics{seconds.WithLabelValues(name), tokens.WithLabelValues(name), ratio.WithLabelValues(name)}
	}
	edits := prometheus.NewCounterVec(prometheus.CounterOpts{Name: own + "edits_total", Help: "Edits of slots by kind."}, []string{"kind"})
	r.MustRegister(edits)
	for kind, name := range editKinds {
		m.edits[kind] = edits.WithLabelValues(name)
	}
	return m
}

// observer is called on the loops' goroutines.
func (m *modelMetrics) observer() loop.Observer {
	return loop.Observer{
		Pass: m.pass,
		Step: m.stepped,
		Admitted: func(prompt, cached int) {
			m.prompt.Add(float64(prompt))
			m.queries.Add(float64(prompt))
			m.hits.Add(float64(cached))
		},
		Lookup: func(asked, found int) {
			m.asked.Add(float64(asked))
			m.found.Add(float64(found))
		},
		Tokens: func(n int, gap time.Duration) {
			m.generated.Add(float64(n))
			if gap >= 0 {
				m.between.Observe(gap.Seconds())
			}
		},
	}
}

func (m *modelMetrics) pass(p *loop.Pass) {
	of, ok := m.passes[p.Kind]
	if !ok {
		return
	}
	of.seconds.Observe(p.Took.Seconds())
	of.tokens.Observe(float64(p.Tokens))
	if p.Expected > 0 {
		of.ratio.Observe(float64(p.Took) / float64(p.Expected))
	}
	if p.Idle > 0 {
		m.idle.Add(float64(p.Idle))
	}
}

func (m *modelMetrics) stepped(s *loop.Step) {
	m.step.Observe(s.Took.Seconds())
	if s.Err != nil {
		m.fails.Inc()
	}
	if len(s.Edits) == 0 {
		return
	}
	m.editing.Add(s.Edit.Seconds())
	for i := range s.Edits {
		if c := m.edits[s.Edits[i].Kind]; c != nil {
			c.Inc()
		}
	}
	m.moved.Add(float64(s.Moved))
}
