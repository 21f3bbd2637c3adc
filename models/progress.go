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
	if file, ok := w.(*os.File); !ok || !term.IsTerminal(int(file.Fd())) {
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

// set moves the bar; it is full only when finish says so.
func (p *progress) set(n int64) {
	if p.bar != nil {
		_ = p.bar.Set64(min(n, p.size-1))
	}
}

func (p *progress) finish(ok bool) {
	switch {
	case p.bar == nil:
	case ok:
		_ = p.bar.Finish()
	default:
		_ = p.bar.Exit()
	}
}
