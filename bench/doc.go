// Package bench drives OpenAI-compatible servers with named workloads and says
// how they did.
//
// A Workload is plain data made from a seed, so that two servers get the same
// bytes. Run sends it over kept-alive connections and stamps every chunk as it
// arrives; what is reported (TTFT, ITL, wall, tokens a second) is computed from
// those stamps afterwards, so a new figure needs no new run.
//
// What a workload is run on is a Subject: a server over HTTP, started as a child
// process or running already, or the engine without one (package raw). Subjects
// are measured in alternating rounds of one run: absolute times drift with the
// machine, ratios of neighbouring rounds do not. Measure gives a WorkloadRun, MeasureSweep
// the curve over an option; a Report holds both, for tables, JSON and plots
// (package plots).
//
// The client knows nothing of Llamero: it speaks HTTP and server-sent events
// and nothing else, so that it treats every server alike.
package bench
