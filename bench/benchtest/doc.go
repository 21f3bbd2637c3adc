// Package benchtest has a fake OpenAI-compatible server for tests of what drives
// servers: with slots, a bounded queue and times of its own, and answers that depend
// on the conversation alone. Main makes a process of it that takes the command lines
// of both servers which the benchmark starts.
package benchtest
