// Package deploy checks the files by which Llamero is run: the container image, the
// compose file with the collector, Prometheus and Grafana, the systemd unit.
//
// What needs no more than the gateway's own modules is checked here: that files parse,
// that settings exist, that names in one file are those of another, and, with the
// tools themselves, systemd's unit and the collector's configuration. lint is a module
// of its own for what needs Prometheus' and Compose's parsers; collector is one for the
// OpenTelemetry Collector that tests run.
package deploy
