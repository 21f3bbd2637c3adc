// Package lint checks deploy's files with the parsers of those who read them: the
// dashboard's queries and prometheus.yml with Prometheus' own, docker-compose.yaml
// with Compose's loader and schema, the Dockerfile with BuildKit's, and the gateway's
// openapi.json with a validator of OpenAPI.
//
// It is a module of its own, so that none of these is among the gateway's modules. It
// holds tests only: `go test ./...`.
package lint
