package models

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows a download: a bar on a terminal, a line at each end elsewhere.
type progress struct {
	bar  *progressbar.ProgressBar // nil: no terminal
	size int64
}

func newProgress(w io.Writer, what string, size int64) *progress {
	if w == nil {
		return &progress{}
	}
	if !terminal(w) {
		fmt.Fprintf(w, "fetching the %s, %.1f MB\n", what, float64(size)/1e6)
		return &progress{}
	}
	return &progress{size: size, bar: progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowTotalBytes(true),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetRenderBlankState(true),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(w) }),
	)}
}

func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// set moves the bar; it is full only when finish says so.
func (p *progress) set(n int64) {
	if p.bar != nil {
		_ = p.bar.Set64(min(n, p.size-1))
	}
}

func (p *progress) finish(ok bool) { finishBar(p.bar, ok) }

func finishBar(bar *progressbar.ProgressBar, ok bool) {
	switch {
	case bar == nil:
	case ok:
		_ = bar.Finish()
	default:
		_ = bar.Exit()
	}
}

// Counter shows how many of a known number of things are done: a bar on a terminal,
// one line elsewhere. Nothing shows before the first is begun.
type Counter struct {
	w     io.Writer
	what  string
	begun bool
	bar   *progressbar.ProgressBar // nil: no terminal, or not begun
}

// NewCounter writes to w.
func NewCounter(w io.Writer, what string) *Counter { return &Counter{w: w, what: what} }

// Set says that the done-th of total things is being worked on.
func (c *Counter) Set(done, total int) {
	switch {
	case !c.begun && terminal(c.w):
		c.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(c.w),
			progressbar.OptionSetDescription(c.what),
			progressbar.OptionShowCount(),
			progressbar.OptionSetWidth(30),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionOnCompletion(func() { fmt.Fprintln(c.w) }),
		)
	case !c.begun:
		fmt.Fprintf(c.w, "%s: %d tensors\n", c.what, total)
	}
	c.begun = true
	if c.bar != nil {
		_ = c.bar.Set(min(done, total) - 1) // it is not finished yet
	}
}

// Finish ends the bar, full if all went well.
func (c *Counter) Finish(ok bool) { finishBar(c.bar, ok) }
