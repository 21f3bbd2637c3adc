package tune

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"time"

	"llamero/bench"
	"llamero/models/native"
)

// Bounds are what a file may lose of its source and still pass for it.
type Bounds struct {
	// Perplexity is the share by which the perplexity may grow.
	Perplexity float64 `json:"perplexity"`
	// KL is the mean divergence from the source's distribution, in nats a token.
	KL float64 `json:"kl"`
}

// FreeOfLoss is what `make run` asks of a file that it serves in its source's place.
var FreeOfLoss = Bounds{Perplexity: 0.01, KL: 0.01}

// Report is what a tune found out.
type Report struct {
	Began    time.Time `json:"began"`
	Machine  string    `json:"machine"`
	LlamaCPP string    `json:"llama_cpp"`
	Model    string    `json:"model"`
	SHA256   string    `json:"sha256"` // of the source
	Threads  int       `json:"threads"`
	Rounds   int       `json:"rounds"`
	Tokens   int       `json:"text_tokens"`
	Scored   int       `json:"scored_tokens"`
	Bounds   Bounds    `json:"bounds"`
	Files    []File    `json:"files"` // the source first
	Fastest  string    `json:"fastest"`
	Nearest  string    `json:"nearest"` // to the source, of those that were made
	Default  string    `json:"default"`
}

// File is one type's figures. Speeds are in tokens a second.
type File struct {
	Type    string       `json:"type"`
	Source  bool         `json:"source,omitempty"` // as it is
	Bytes   int64        `json:"bytes"`
	Prefill bench.Spread `json:"prefill"`
	Decode  bench.Spread `json:"decode"`  // one answer
	Batch   bench.Spread `json:"decode8"` // eight answers together
	Gain    float64      `json:"gain"`    // geometric mean of the three, over the source's
	Quality Quality      `json:"quality"`
}

// Quality is what is left of the source.
type Quality struct {
	Perplexity float64 `json:"perplexity"`
	Change     float64 `json:"perplexity_change"`       // over the source's, as a share
	Error      float64 `json:"perplexity_change_error"` // standard error of Change
	KL         float64 `json:"kl"`                      // nats a token, mean
	KL99       float64 `json:"kl_p99"`
	SameTop    float64 `json:"same_top"` // share of tokens where both expect the same
}

func newQuality(c native.Comparison) Quality {
	ratio := math.Exp(c.Loss - c.SourceLoss)
	return Quality{Perplexity: math.Exp(c.Loss), Change: ratio - 1, Error: ratio * c.LossError, KL: c.KL, KL99: c.KL99, SameTop: c.SameTop}
}

// Within says whether a file passes for its source.
func (b Bounds) Within(q Quality) bool { return q.Change <= b.Perplexity && q.KL <= b.KL }

// judge says which files are best. The source, which loses nothing, can be.
func (r *Report) judge() {
	source := r.Files[0]
	for i := range r.Files {
		f := &r.Files[i]
		f.Gain = math.Cbrt(f.Prefill.Median / source.Prefill.Median * f.Decode.Median / source.Decode.Median * f.Batch.Median / source.Batch.Median)
	}
	faster := func(a, b File) int { return cmp.Compare(a.Gain, b.Gain) }
	r.Fastest = slices.MaxFunc(r.Files, faster).Type
	var within []File
	for _, f := range r.Files {
		if r.Bounds.Within(f.Quality) {
			within = append(within, f)
		}
	}
	r.Default = slices.MaxFunc(within, faster).Type // the source is always within
	if made := r.Files[1:]; len(made) > 0 {
		r.Nearest = slices.MinFunc(made, func(a, b File) int { return cmp.Compare(a.Quality.KL, b.Quality.KL) }).Type
	}
}

// Write prints the table and what follows from it.
func (r *Report) Write(w io.Writer) {
	fmt.Fprintf(w, "machine: %s\n", r.Machine)
	fmt.Fprintf(w, "model: %s, llama.cpp %s, threads %d, rounds %d\n", r.Model, r.LlamaCPP, r.Threads, r.Rounds)
	fmt.Fprintf(w, "text: %d tokens, %d of them scored, each with 256 or more before it\n\n", r.Tokens, r.Scored)
	t := bench.NewTable("type", "MB", "prefill tok/s", "decode tok/s", "decode ×8 tok/s", "gain", "perplexity", "change %", "KL mean", "KL p99", "same top %")
	for _, f := range r.Files {
		name, q := f.Type, f.Quality
		change, kl, kl99, same := fmt.Sprintf("%+.2f ± %.2f", 100*q.Change, 100*q.Error), fmt.Sprintf("%.5f", q.KL), fmt.Sprintf("%.4f", q.KL99), fmt.Sprintf("%.1f", 100*q.SameTop)
		if f.Source {
			name += " (source)"
			change, kl, kl99, same = "–", "–", "–", "–"
		}
		t.Row(name, fmt.Sprintf("%.1f", float64(f.Bytes)/1e6), speed(f.Prefill), speed(f.Decode), speed(f.Batch),
			fmt.Sprintf("%.2f", f.Gain), fmt.Sprintf("%.3f", q.Perplexity), change, kl, kl99, same)
	}
	t.Write(w)
	fmt.Fprintln(w, "\nspeeds are medians over the rounds, with least and most; gain is the geometric mean of the three speeds over the source's")
	fmt.Fprintf(w, "fastest: %s\n", r.Fastest)
	if r.Nearest != "" {
		fmt.Fprintf(w, "nearest to the source: %s\n", r.Nearest)
	}
	fmt.Fprintf(w, "default: %s, the fastest whose perplexity is at most %.3g%% worse than the source's and whose mean KL is at most %.3g nats\n",
		r.Default, 100*r.Bounds.Perplexity, r.Bounds.KL)
}

func speed(s bench.Spread) string { return fmt.Sprintf("%.0f (%.0f…%.0f)", s.Median, s.Min, s.Max) }

// name is the source's without its folder.
func (r *Report) name() string { return filepath.Base(r.Model) }
