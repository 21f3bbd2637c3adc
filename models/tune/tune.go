package tune

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"llamero/bench"
	"llamero/engine/llama"
	"llamero/models"
	"llamero/models/inspect"
	"llamero/models/native"
)

//go:embed text.txt
var text string

// Limits of what can be asked for.
const (
	MaxRounds = 100
	MaxTypes  = 32
)

// DefaultTypes are what is tried without a choice: from 4 to 8 bits.
var DefaultTypes = []llama.FileType{"q4_0", "q4_k_m", "q5_k_m", "q6_k", "q8_0"}

// Worker does the work on files; native.Worker is one.
type Worker interface {
	Quantize(ctx context.Context, in, out string, t llama.FileType, replace bool, progress func(done, total int)) error
	Compare(ctx context.Context, source, model, text string, progress func(done, total int)) (native.Comparison, error)
	Speed(ctx context.Context, model string, seed uint64) (native.Speed, error)
}

// Options say what to tune and how.
type Options struct {
	Model   string // GGUF file, the source
	Types   []llama.FileType
	Dir     string // where files are made; it must be there
	Keep    bool   // leave them there
	Rounds  int
	Threads int    // to be said in the report
	Text    string // "": this package's
}

// Check reports all that is wrong.
func (o Options) Check() error {
	var errs []error
	if o.Rounds < 1 || o.Rounds > MaxRounds {
		errs = append(errs, fmt.Errorf("--rounds: %d is not in 1…%d", o.Rounds, MaxRounds))
	}
	if len(o.Types) < 1 || len(o.Types) > MaxTypes {
		errs = append(errs, fmt.Errorf("--types: %d types; 1 to %d can be", len(o.Types), MaxTypes))
	}
	for i, t := range o.Types {
		if slices.Contains(o.Types[:i], t) {
			errs = append(errs, fmt.Errorf("--types: %s is named twice", t))
		}
	}
	return errors.Join(errs...)
}

// runs is how many steps a tune has.
func (o Options) runs() int { return len(o.Types)*2 + o.Rounds*(len(o.Types)+1) }

// candidate is a file and what its rounds gave.
type candidate struct {
	path   string
	file   File
	speeds []native.Speed
}

// Run quantises, measures and judges. How far it is goes to progress; nil is nowhere.
func Run(ctx context.Context, w Worker, o Options, progress io.Writer) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	about, err := inspect.Read(o.Model)
	if err != nil {
		return nil, err
	}
	source := cmp.Or(about.FileType, "unknown")
	o.Types = slices.DeleteFunc(slices.Clone(o.Types), func(t llama.FileType) bool { return string(t) == source })
	if len(o.Types) == 0 {
		return nil, fmt.Errorf("%s is %s already: name other --types", o.Model, source)
	}
	digest, err := models.Digest(o.Model)
	if err != nil {
		return nil, err
	}
	var p *bench.Progress
	if progress != nil {
		p = bench.NewProgress(progress, o.runs())
		defer p.Clear()
	}
	if o.Text == "" {
		o.Text = text
	}
	r := &Report{Began: time.Now().UTC(), Machine: bench.Machine(), LlamaCPP: models.LlamaCPPVersion(), Model: o.Model,
		SHA256: digest, Threads: o.Threads, Rounds: o.Rounds, Bounds: FreeOfLoss}
	all := []*candidate{{path: o.Model, file: File{Type: source, Source: true, Bytes: about.Bytes}}}
	for _, t := range o.Types {
		c := &candidate{path: filepath.Join(o.Dir, string(t)+".gguf"), file: File{Type: string(t)}}
		if !o.Keep {
			defer os.Remove(c.path)
		}
		if err := c.make(ctx, w, o.Model, t, p); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	for _, c := range all[1:] {
		p.Begin("comparing " + c.file.Type)
		found, err := w.Compare(ctx, o.Model, c.path, o.Text, nil)
		if err != nil {
			return nil, err
		}
		c.file.Quality = newQuality(found)
		r.Tokens, r.Scored = found.Tokens, found.Scored
		if all[0].file.Quality.Perplexity == 0 {
			found.Loss = found.SourceLoss
			all[0].file.Quality = Quality{Perplexity: newQuality(found).Perplexity, SameTop: 1}
		}
		p.End(fmt.Sprintf("%s: perplexity %+.2f%%, mean KL %.5f", c.file.Type, 100*c.file.Quality.Change, c.file.Quality.KL))
	}
	if err := rounds(ctx, w, all, o.Rounds, p); err != nil {
		return nil, err
	}
	for _, c := range all {
		r.Files = append(r.Files, c.figures())
	}
	r.judge()
	return r, nil
}

// make quantises the source; a file that is there already is whole and of this
// source, since its folder is named by that.
func (c *candidate) make(ctx context.Context, w Worker, source string, t llama.FileType, p *bench.Progress) error {
	p.Begin("making " + c.file.Type)
	err := w.Quantize(ctx, source, c.path, t, false, nil)
	if err != nil && !errors.Is(err, native.ErrExists) {
		return err
	}
	st, err := os.Stat(c.path)
	if err != nil {
		return err
	}
	c.file.Bytes = st.Size()
	p.End(fmt.Sprintf("%s: %.1f MB", c.file.Type, float64(c.file.Bytes)/1e6))
	return nil
}

// rounds measures speeds. The order turns around each time, so that a drift of the
// machine favours nobody, and a round has the same prompts for all.
func rounds(ctx context.Context, w Worker, all []*candidate, n int, p *bench.Progress) error {
	for round := range n {
		for i := range all {
			if round%2 == 1 {
				i = len(all) - 1 - i
			}
			c := all[i]
			p.Begin(fmt.Sprintf("round %d of %d: %s", round+1, n, c.file.Type))
			s, err := w.Speed(ctx, c.path, uint64(round))
			if err != nil {
				return err
			}
			c.speeds = append(c.speeds, s)
			p.End(fmt.Sprintf("round %d of %d: %s: prefill %.0f tok/s, decode %.0f, ×8 %.0f", round+1, n, c.file.Type, s.Prefill, s.Decode, s.Batch))
		}
	}
	return nil
}

func (c *candidate) figures() File {
	spread := func(of func(native.Speed) float64) bench.Spread {
		var values []float64
		for _, s := range c.speeds {
			values = append(values, of(s))
		}
		return bench.NewSpread(values)
	}
	c.file.Prefill = spread(func(s native.Speed) float64 { return s.Prefill })
	c.file.Decode = spread(func(s native.Speed) float64 { return s.Decode })
	c.file.Batch = spread(func(s native.Speed) float64 { return s.Batch })
	return c.file
}
