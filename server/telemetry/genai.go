package telemetry

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"llamero/server"
)

// genAI are OpenTelemetry's metrics of generative servers.
type genAI struct {
	duration, firstToken, perToken metric.Float64Histogram
}

// The bounds are the conventions' own.
func newGenAI(m metric.Meter) (*genAI, error) {
	histogram := func(name, help string, bounds ...float64) (metric.Float64Histogram, error) {
		return m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(help), metric.WithExplicitBucketBoundaries(bounds...))
	}
	var errs [3]error
	var g genAI
	g.duration, errs[0] = histogram("gen_ai.server.request.duration", "Time to the last byte of an answer.",
		0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
	g.firstToken, errs[1] = histogram("gen_ai.server.time_to_first_token", "Time to an answer's first token.",
		0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
	g.perToken, errs[2] = histogram("gen_ai.server.time_per_output_token", "Time of a token after the first.",
		0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
	return &g, errors.Join(errs[:]...)
}

func (g *genAI) end(r *server.Record, where []attribute.KeyValue) {
	a := r.Answer
	attrs := append(slices.Clone(where),
		attribute.String("gen_ai.operation.name", a.Operation),
		attribute.String("gen_ai.provider.name", provider),
		attribute.String("gen_ai.request.model", r.Model),
		attribute.String("gen_ai.response.model", r.Model),
	)
	ctx := context.Background()
	at := metric.WithAttributes(attrs...)
	if r.TTFT > 0 {
		g.firstToken.Record(ctx, r.TTFT.Seconds(), at)
	}
	// The answers of a request are generated side by side.
	if tokens := r.OutputTokens/max(1, len(a.Finish)) - 1; tokens > 0 && !a.First.IsZero() && !a.Last.IsZero() {
		g.perToken.Record(ctx, a.Last.Sub(a.First).Seconds()/float64(tokens), at)
	}
	if e := errorType(r); e != "" {
		at = metric.WithAttributes(append(attrs, attribute.String("error.type", e))...)
	}
	g.duration.Record(ctx, r.Duration.Seconds(), at)
}

// errorType is a word of a fixed set for what went wrong, "" for nothing.
func errorType(r *server.Record) string {
	switch {
	case r.Status == server.StatusClientGone:
		return "client_gone"
	case r.Code != "":
		return r.Code
	case r.Status >= 400:
		return strconv.Itoa(r.Status)
	}
	return ""
}
