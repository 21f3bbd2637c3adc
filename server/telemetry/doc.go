// Package telemetry makes traces and metrics of what the gateway does.
//
// The gateway's parts know nothing of OpenTelemetry and Prometheus: the server
// reports each request as a server.Record, each loop its steps and passes through a
// loop.Observer, and gauges are read from a loop's snapshot when they are asked for.
// This package turns these into
//
//   - a page of metrics in Prometheus' text format, under vLLM's names where vLLM
//     has one, so that its dashboards and autoscalers work, and llamero_… for the
//     rest;
//   - traces, a SERVER span a request, below it the answer by OpenTelemetry's GenAI
//     conventions, below that where its time went: queue, prefill, decode;
//   - the GenAI server metrics, over OTLP.
//
// Spans below the first are made when a request has ended, from the times in its
// record: a request under way costs nothing but those.
//
// Labels and attributes of metrics come from fixed sets or the configuration, never
// from a client.
package telemetry
