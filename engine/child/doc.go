// Package child gives one task to a process of its own: native code that fails an
// assertion ends that process and not this one, a task can be interrupted, and its
// memory and threads are gone when it is done.
//
// The task goes to the child's standard input as JSON; what it answers, one JSON
// value or several, comes from its standard output.
package child
