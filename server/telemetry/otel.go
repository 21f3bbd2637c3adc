package telemetry

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	otelapi "go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"llamero/server"
)

// scope names the instrumentation.
const scope = "llamero/server/telemetry"

// otel is what goes to a collector.
type otel struct {
	tracer  trace.Tracer         // nil: no traces
	metrics *genAI               // nil: no metrics
	where   []attribute.KeyValue // server.address, server.port
	context propagation.TraceContext

	shutdown []func(context.Context) error
}

// newOtel makes the exporters that the environment names, or nil if it names none.
// The specification's default is to export to a collector on this machine; a
// gateway that nobody has told of one should not try.
func newOtel(ctx context.Context, opt Options) (*otel, error) {
	env := opt.Getenv
	if strings.EqualFold(env("OTEL_SDK_DISABLED"), "true") {
		return nil, nil
	}
	named := func(signal string) bool {
		return env("OTEL_"+signal+"_EXPORTER") != "" || env("OTEL_EXPORTER_OTLP_ENDPOINT") != "" ||
			env("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
	}
	setting := func(signal string) string { // what an exporter's error does not quote
		return fmt.Sprintf("OTEL_%s_EXPORTER=%q, OTEL_EXPORTER_OTLP_PROTOCOL=%q", signal, env("OTEL_"+signal+"_EXPORTER"), env("OTEL_EXPORTER_OTLP_PROTOCOL"))
	}
	if !named("TRACES") && !named("METRICS") {
		return nil, nil
	}
	if opt.Warn != nil {
		otelapi.SetErrorHandler(otelapi.ErrorHandlerFunc(opt.Warn)) // exporters report to the global one
	}
	res, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithHost(),
		resource.WithAttributes(attribute.String("service.name", "llamero"), attribute.String("service.version", opt.Version)),
		resource.WithFromEnv(), // OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES win
	)
	if err != nil {
		return nil, fmt.Errorf("OpenTelemetry resource: %w", err)
	}
	o := &otel{}
	if host, port, err := net.SplitHostPort(opt.Address); err == nil {
		o.where = append(o.where, attribute.String("server.address", host))
		if n, err := strconv.Atoi(port); err == nil {
			o.where = append(o.where, attribute.Int("server.port", n))
		}
	}
	if named("TRACES") {
		exporter, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return nil, fmt.Errorf("OpenTelemetry traces (%s): %w", setting("TRACES"), err)
		}
		if !autoexport.IsNoneSpanExporter(exporter) {
			p := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(res))
			o.tracer = p.Tracer(scope, trace.WithInstrumentationVersion(opt.Version))
			o.shutdown = append(o.shutdown, p.Shutdown)
		}
	}
	if named("METRICS") {
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return nil, fmt.Errorf("OpenTelemetry metrics (%s): %w", setting("METRICS"), err)
		}
		if !autoexport.IsNoneMetricReader(reader) {
			p := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithResource(res))
			if o.metrics, err = newGenAI(p.Meter(scope, metric.WithInstrumentationVersion(opt.Version))); err != nil {
				return nil, fmt.Errorf("OpenTelemetry metrics: %w", err)
			}
			o.shutdown = append(o.shutdown, p.Shutdown)
		}
	}
	return o, nil
}

// captures reads the standard switch for messages and answers in traces.
func captures(env func(string) string) bool {
	switch strings.ToLower(env("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT")) {
	case "true", "span_only", "span_and_event":
		return true
	}
	return false
}

func (o *otel) end(r *server.Record) {
	if o.tracer != nil {
		o.spans(r)
	}
	if o.metrics != nil && r.Answer != nil {
		o.metrics.end(r, o.where)
	}
}
