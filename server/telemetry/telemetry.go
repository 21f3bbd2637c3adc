package telemetry

import (
	"context"
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"llamero/scheduler/loop"
	"llamero/server"
)

// Options of a Telemetry.
type Options struct {
	Version  string // of the gateway
	LlamaCPP string // version of the engine's library
	Address  string // host:port that the gateway listens on
	Metrics  bool   // keep metrics for Handler; traces and OTLP follow the environment
	// Getenv is os.Getenv: the OTEL_* variables decide what is exported.
	Getenv func(string) string
	// Warn is told of exports that fail.
	Warn func(error)
}

// Telemetry is what observes a gateway. It is safe for concurrent use.
type Telemetry struct {
	registry *prometheus.Registry // nil: no metrics
	requests *requestMetrics
	otel     *otel // nil: nothing is exported
	content  bool
}

// New prepares metrics and exporters. It opens no connection: exporters do so when
// they have something to send.
func New(ctx context.Context, opt Options) (*Telemetry, error) {
	t := &Telemetry{content: captures(opt.Getenv)}
	if opt.Metrics {
		t.registry = prometheus.NewPedanticRegistry()
		t.registry.MustRegister(
			collectors.NewGoCollector(),
			collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
			buildInfo(opt.Version, opt.LlamaCPP),
		)
		t.requests = newRequestMetrics(t.registry)
	}
	var err error
	t.otel, err = newOtel(ctx, opt)
	return t, err
}

// Content reports whether the environment asks for messages and answers in traces.
func (t *Telemetry) Content() bool { return t.content && t.otel != nil && t.otel.tracer != nil }

// Handler serves the page of metrics; nil if there are none.
func (t *Telemetry) Handler() http.Handler {
	if t.registry == nil {
		return nil
	}
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{
		Registry:            t.registry,
		MaxRequestsInFlight: 4,
		EnableOpenMetrics:   true,
	})
}

// Requests follows a server's requests.
func (t *Telemetry) Requests() server.Observer {
	if t.requests == nil && t.otel == nil {
		return server.Observer{}
	}
	o := server.Observer{End: func(r *server.Record) {
		if t.requests != nil {
			t.requests.end(r)
		}
		if t.otel != nil {
			t.otel.end(r)
		}
	}}
	if t.otel != nil && t.otel.tracer != nil {
		o.Begin = t.otel.begin
	}
	return o
}

// Model follows the loops of a served model. They are made with the observer, so
// their gauges come later: call watch when the group is there.
func (t *Telemetry) Model(alias string) (observer loop.Observer, watch func(Group)) {
	if t.registry == nil {
		return loop.Observer{}, func(Group) {}
	}
	m := newModelMetrics(t.registry, alias)
	return m.observer(), func(g Group) { t.registry.MustRegister(newGauges(alias, g)) }
}

// Shutdown sends what has not been sent, until ctx ends.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if t.otel == nil {
		return nil
	}
	var errs []error
	for _, f := range t.otel.shutdown {
		errs = append(errs, f(ctx))
	}
	return errors.Join(errs...)
}
