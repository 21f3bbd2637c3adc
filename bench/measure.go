package bench

import (
	"context"
	"fmt"
	"io"
)

// WorkloadRun is one workload measured on several subjects.
type WorkloadRun struct {
	Workload string       `json:"workload"`
	Options  Options      `json:"options"`
	Requests int          `json:"requests"` // of a round
	Subjects []SubjectRun `json:"subjects"`
	Ratios   []Ratio      `json:"ratios,omitempty"`
	Compare  *Comparison  `json:"compare,omitempty"`
}

// SubjectRun is how a subject did, round by round.
type SubjectRun struct {
	Subject string    `json:"subject"`
	Rounds  []Summary `json:"rounds"`
	Errors  []string  `json:"errors,omitempty"` // the first few
}

// Ratio compares the first subject with another one, round by round.
type Ratio struct {
	Over    string            `json:"over"`
	Under   string            `json:"under"`
	Figures map[string]Spread `json:"figures"`
}

// ratioKeys are the figures that a Ratio has.
var ratioKeys = []string{"wall_s", "tokens_per_second", "ttft_p50_s", "itl_p50_ms", "itl_p99_ms"}

// tableKeys are the columns of a run's table.
var tableKeys = []string{"wall_s", "tokens_per_second", "ttft_p50_s", "ttft_p95_s", "ttft_p99_s",
	"itl_p50_ms", "itl_p95_ms", "itl_p99_ms", "prompt_tokens", "cached_tokens"}

// Measure runs a workload on those of the subjects that take it, in alternating
// rounds. compare puts the answers of the first two side by side.
func Measure(ctx context.Context, subjects []Subject, workload string, o Options, rounds int, compare bool, p *Progress) (WorkloadRun, error) {
	subjects = Takers(subjects, workload)
	run := WorkloadRun{Workload: workload, Options: o}
	if len(subjects) == 0 {
		return run, fmt.Errorf("workload %s: nothing that is measured can run it", workload)
	}
	results, err := Rounds(ctx, subjects, rounds, func(round int) (Workload, error) {
		at := o
		at.Seed += uint64(round)
		w, err := New(workload, at)
		run.Requests = w.Requests()
		return w, err
	}, p)
	if err != nil {
		return run, err
	}
	for i, s := range subjects {
		run.Subjects = append(run.Subjects, subjectRun(s.Info().Name, results[i]))
	}
	for _, under := range run.Subjects[1:] {
		run.Ratios = append(run.Ratios, newRatio(run.Subjects[0], under))
	}
	if compare && len(subjects) > 1 {
		run.Compare = Compare(results[0], results[1])
	}
	return run, nil
}

// Takers are the subjects that can run a workload.
func Takers(subjects []Subject, workload string) []Subject {
	var takers []Subject
	for _, s := range subjects {
		if s.Takes(workload) {
			takers = append(takers, s)
		}
	}
	return takers
}

func subjectRun(name string, results []Result) SubjectRun {
	run := SubjectRun{Subject: name}
	for _, r := range results {
		run.Rounds = append(run.Rounds, r.Summary())
		for _, e := range r.Errors() {
			if len(run.Errors) < errorsShown {
				run.Errors = append(run.Errors, e)
			}
		}
	}
	return run
}

func newRatio(over, under SubjectRun) Ratio {
	r := Ratio{Over: over.Subject, Under: under.Subject, Figures: map[string]Spread{}}
	for _, key := range ratioKeys {
		f := figureOf(key)
		if s := Ratios(f.each(over.Rounds), f.each(under.Rounds)); s.Known() {
			r.Figures[key] = s
		}
	}
	return r
}

// Failed counts requests that failed, and all requests.
func (s SubjectRun) Failed() (failed, all int) {
	for _, r := range s.Rounds {
		failed += r.Errors
		all += r.Requests
	}
	return failed, all
}

// Spread is a figure's over the rounds; see Spread.Known.
func (s SubjectRun) Spread(key string) Spread { return spreadOf(figureOf(key).each(s.Rounds)) }

// Write prints the run as tables: how each subject did, medians over the rounds, and
// the ratios.
func (r WorkloadRun) Write(w io.Writer) {
	fmt.Fprintf(w, "\n### %s: %s\n\n", r.Workload, About(r.Workload))
	o := r.Options
	fmt.Fprintf(w, "%d requests of %d words and %d tokens, seed %d", r.Requests, o.Words, o.Tokens, o.Seed)
	if r.Workload == "turns" {
		fmt.Fprintf(w, ", %d turns", o.Turns)
		if o.System > 0 {
			fmt.Fprintf(w, " behind a system prompt of %d words", o.System)
		}
	}
	if r.Workload == "poisson" {
		fmt.Fprintf(w, ", %g a second", o.Rate)
	}
	fmt.Fprintf(w, ", rounds: %d\n\n", len(r.Subjects[0].Rounds))
	head := []string{""}
	for _, key := range tableKeys {
		head = append(head, Head(key))
	}
	t := NewTable(append(head, "errors")...)
	for _, s := range r.Subjects {
		row := []string{s.Subject}
		for _, key := range tableKeys {
			if key == "wall_s" {
				row = append(row, figureOf(key).printSpread(s.Spread(key), len(s.Rounds)))
			} else {
				row = append(row, figureOf(key).print(s.Spread(key).Median))
			}
		}
		failed, _ := s.Failed()
		t.Row(append(row, fmt.Sprint(failed))...)
	}
	t.Write(w)
	if len(r.Ratios) > 0 {
		head := []string{"ratio"}
		for _, key := range ratioKeys {
			head = append(head, figureOf(key).name)
		}
		t := NewTable(head...)
		for _, ratio := range r.Ratios {
			row := []string{ratio.Over + " / " + ratio.Under}
			for _, key := range ratioKeys {
				cell := "–"
				if s, ok := ratio.Figures[key]; ok {
					cell = s.String()
				}
				row = append(row, cell)
			}
			t.Row(row...)
		}
		fmt.Fprintln(w)
		t.Write(w)
	}
	if r.Compare != nil {
		fmt.Fprintln(w)
		r.Compare.Write(w)
	}
}
