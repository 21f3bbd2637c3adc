// Package configs holds the gateway's settings: one Config, filled from four
// sources and validated whole.
//
// # One table
//
// Config's struct tags are the only place where a setting is described: its YAML
// key, flag, documentation, default where that depends on the machine, and range.
// The environment variable is the flag's name in capitals behind LLAMERO_. Flags,
// environment, YAML, --help, --print-config and the README's table are all made
// from those tags, so they cannot drift apart.
//
// # Precedence
//
// Flags win over the environment, that over the file, that over Default. All
// sources share one parser: a duration is "250ms" and a size "2GiB" everywhere.
//
// # Errors
//
// Load reports every problem it finds, not the first, each as a *Problem that
// names the setting by its YAML path, where the value came from (with the line, in
// a file), and what is allowed. A YAML key that does not exist is a problem too.
//
// # Secrets
//
// API keys have no flag, since every user of a machine can read its processes'
// arguments. A Secret prints as "[redacted]" wherever it is logged or formatted,
// and YAML leaves keys out.
package configs
