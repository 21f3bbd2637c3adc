package telemetry

import (
	"context"
	"encoding/json"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"llamero/server"
	"llamero/server/openai"
)

const provider = "llamero"

// headers is a request's headers to read from, and its answer's to write to.
type headers struct {
	get func(string) string
	set func(string, string)
}

func (h headers) Get(name string) string { return h.get(name) }
func (h headers) Set(name, value string) { h.set(name, value) }
func (h headers) Keys() []string         { return nil } // the propagator asks by name

var _ propagation.TextMapCarrier = headers{}

// begin starts a request's SERVER span, so that the answer's headers can name it.
func (o *otel) begin(r *server.Record, get func(string) string, set func(string, string)) any {
	h := headers{get, set}
	ctx := o.context.Extract(context.Background(), h)
	ctx, _ = o.tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(r.Start))
	o.context.Inject(ctx, h)
	return ctx
}

// spans ends the SERVER span and makes those below it.
func (o *otel) spans(r *server.Record) {
	ctx, ok := r.Trace.(context.Context)
	if !ok {
		return
	}
	span := trace.SpanFromContext(ctx)
	end := trace.WithTimestamp(r.Start.Add(r.Duration))
	if !span.IsRecording() {
		span.End(end)
		return
	}
	if r.Answer != nil {
		o.answer(ctx, r, end)
	}
	name := r.Method
	attrs := append([]attribute.KeyValue{
		attribute.String("http.request.method", r.Method),
		attribute.String("url.path", r.Path),
		attribute.String("url.scheme", "http"),
		attribute.Int("http.response.status_code", r.Status),
		attribute.String("llamero.request.id", r.ID),
	}, o.where...)
	if r.Route != "" {
		name += " " + r.Route
		attrs = append(attrs, attribute.String("http.route", r.Route))
	}
	if r.Key != "" {
		attrs = append(attrs, attribute.String("llamero.key.name", r.Key))
	}
	span.SetName(name)
	span.SetAttributes(attrs...)
	fail(span, r, 500) // what a client did wrong is no error of the server's
	span.End(end)
}

// fail marks a span as failed; statuses below least are only named.
func fail(span trace.Span, r *server.Record, least int) {
	e := errorType(r)
	if e == "" {
		return
	}
	span.SetAttributes(attribute.String("error.type", e))
	if r.Status >= least {
		// The text of an inner error stays in the log: it may quote what a client sent.
		span.SetStatus(codes.Error, e)
	}
}

// answer makes the GenAI span and the waits below it.
func (o *otel) answer(ctx context.Context, r *server.Record, end trace.SpanEndOption) {
	a := r.Answer
	ctx, span := o.tracer.Start(ctx, a.Operation+" "+r.Model, trace.WithTimestamp(a.Began))
	span.SetAttributes(o.where...)
	span.SetAttributes(requested(r)...)
	if r.PromptTokens > 0 {
		span.SetAttributes(
			attribute.String("gen_ai.response.id", a.ID),
			attribute.String("gen_ai.response.model", r.Model),
			attribute.StringSlice("gen_ai.response.finish_reasons", finishes(a.Finish)),
			attribute.Int("gen_ai.usage.input_tokens", r.PromptTokens),
			attribute.Int("gen_ai.usage.output_tokens", r.OutputTokens),
			attribute.Int("gen_ai.usage.cache_read.input_tokens", r.CachedTokens),
			attribute.Float64("gen_ai.server.time_to_first_token", r.TTFT.Seconds()),
		)
	}
	if a.Messages != nil {
		span.SetAttributes(content(a)...)
	}
	for _, l := range a.Lookups {
		span.AddEvent("prefix lookup", trace.WithTimestamp(l.Ended), trace.WithAttributes(
			attribute.String("llamero.lookup.tier", l.Tier),
			attribute.Int("llamero.lookup.asked_tokens", l.Asked),
			attribute.Int("llamero.lookup.found_tokens", l.Found),
			attribute.Float64("llamero.lookup.duration", l.Ended.Sub(l.Began).Seconds()),
		))
	}
	fail(span, r, 400)
	over := r.Start.Add(r.Duration)
	o.wait(ctx, "queue", a.Submitted, a.Admitted, over)
	o.wait(ctx, "prefill", a.Admitted, a.First, over, attribute.Int("llamero.prefill.tokens", r.PromptTokens-r.CachedTokens))
	o.wait(ctx, "decode", a.First, a.Last, over, attribute.Int("llamero.decode.tokens", r.OutputTokens))
	span.End(end)
}

// wait makes a span of one part of a request's life. One that has begun and not
// ended was cut off with the request.
func (o *otel) wait(ctx context.Context, name string, from, to, over time.Time, attrs ...attribute.KeyValue) {
	if from.IsZero() {
		return
	}
	if to.IsZero() {
		to = over
	}
	_, span := o.tracer.Start(ctx, name, trace.WithTimestamp(from), trace.WithAttributes(attrs...))
	span.End(trace.WithTimestamp(to))
}

// finishes has a word for every choice, as the conventions want.
func finishes(in []string) []string {
	out := make([]string, len(in))
	for i, f := range in {
		if out[i] = f; f == "" {
			out[i] = "error"
		}
	}
	return out
}

// requested are the attributes of what was asked for; settings that were left out
// are left out.
func requested(r *server.Record) []attribute.KeyValue {
	a, p := r.Answer, &r.Answer.Params
	attrs := []attribute.KeyValue{
		attribute.String("gen_ai.operation.name", a.Operation),
		attribute.String("gen_ai.provider.name", provider),
		attribute.String("gen_ai.request.model", r.Model),
		attribute.Float64("gen_ai.request.temperature", float64(p.Sampling.Temperature)),
		attribute.Bool("gen_ai.request.stream", p.Stream),
	}
	number := func(key string, v float32) {
		if v != 0 {
			attrs = append(attrs, attribute.Float64(key, float64(v)))
		}
	}
	number("gen_ai.request.top_p", p.Sampling.TopP)
	number("gen_ai.request.frequency_penalty", p.Sampling.Frequency)
	number("gen_ai.request.presence_penalty", p.Sampling.Presence)
	if p.Sampling.TopK > 0 {
		attrs = append(attrs, attribute.Int("gen_ai.request.top_k", int(p.Sampling.TopK)))
	}
	if p.MaxTokens > 0 {
		attrs = append(attrs, attribute.Int("gen_ai.request.max_tokens", p.MaxTokens))
	}
	if p.Seed != nil {
		attrs = append(attrs, attribute.Int64("gen_ai.request.seed", int64(*p.Seed)))
	}
	if len(p.Stop) > 0 {
		attrs = append(attrs, attribute.StringSlice("gen_ai.request.stop_sequences", p.Stop))
	}
	if p.N > 1 {
		attrs = append(attrs, attribute.Int("gen_ai.request.choice.count", p.N))
	}
	return attrs
}

// part and message are the conventions' JSON of messages.
type part struct {
	Type    string `json:"type"`
	Content string `json:"content"`
}

type message struct {
	Role   string `json:"role"`
	Parts  []part `json:"parts"`
	Finish string `json:"finish_reason,omitempty"`
}

// content are the messages and answers, which only an operator's opt-in brings here.
func content(a *server.Answer) []attribute.KeyValue {
	in := make([]message, len(a.Messages))
	for i, m := range a.Messages {
		in[i] = said(m)
	}
	out := make([]message, len(a.Texts))
	for i, text := range a.Texts {
		out[i] = message{Role: "assistant", Parts: []part{{"text", text}}, Finish: a.Finish[i]}
	}
	var attrs []attribute.KeyValue
	for key, messages := range map[string][]message{"gen_ai.input.messages": in, "gen_ai.output.messages": out} {
		if b, err := json.Marshal(messages); err == nil { // strings always marshal
			attrs = append(attrs, attribute.String(key, string(b)))
		}
	}
	return attrs
}

func said(m openai.Message) message {
	role := m.Role
	if role == "" {
		role = "user"
	}
	return message{Role: role, Parts: []part{{"text", m.Content}}}
}
