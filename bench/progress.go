package bench

import (
	"fmt"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// Progress says how far a measurement is: a bar on a terminal, a line for each run
// elsewhere. Nil says nothing.
type Progress struct {
	w    io.Writer
	bar  *progressbar.ProgressBar // nil: no terminal
	runs int
	done int
}

// errorsShown is how many of a run's failures are printed.
const errorsShown = 3

// NewProgress expects so many runs. While it lives, nobody else writes to w without
// calling Clear.
func NewProgress(w io.Writer, runs int) *Progress {
	p := &Progress{w: w, runs: runs}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		// It is drawn between runs and never during one.
		p.bar = progressbar.NewOptions(runs,
			progressbar.OptionSetWriter(w),
			progressbar.OptionSetWidth(30),
			progressbar.OptionShowCount(),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionSetElapsedTime(true),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionSetRenderBlankState(true),
		)
	}
	return p
}

// Begin names the run that starts.
func (p *Progress) Begin(what string) {
	if p != nil && p.bar != nil {
		p.bar.Describe(what)
		_ = p.bar.RenderBlank()
	}
}

// End counts a run and says how it went.
func (p *Progress) End(how string) {
	if p == nil {
		return
	}
	p.done++
	if p.bar != nil {
		_ = p.bar.Add(1)
		return
	}
	fmt.Fprintf(p.w, "[%d/%d] %s\n", p.done, p.runs, how)
}

// Errors prints a run's first few failures; it never hides that there were any.
func (p *Progress) Errors(r Result) {
	errs := r.Errors()
	if p == nil || len(errs) == 0 {
		return
	}
	p.Clear()
	for i, e := range errs {
		if i == errorsShown {
			fmt.Fprintf(p.w, "  … and %d more errors\n", len(errs)-i)
			break
		}
		fmt.Fprintf(p.w, "  error: %s: %s\n", r.Target, e)
	}
}

// Clear makes room for what others print.
func (p *Progress) Clear() {
	if p != nil && p.bar != nil {
		_ = p.bar.Clear()
	}
}
