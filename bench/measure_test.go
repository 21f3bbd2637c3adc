package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// scripted is a subject whose runs take what it says, by round.
type scripted struct {
	name  string
	walls []time.Duration
	fails bool
	text  string
	refus string // the workload that it does not take
	ran   *[]string
	seen  []Workload
}

func (s *scripted) Info() Info             { return Info{Name: s.name, Version: "1"} }
func (s *scripted) Takes(name string) bool { return name != s.refus }

func (s *scripted) Run(_ context.Context, w Workload) (Result, error) {
	if s.ran != nil {
		*s.ran = append(*s.ran, s.name)
	}
	wall := s.walls[len(s.seen)%len(s.walls)]
	s.seen = append(s.seen, w)
	r := Result{Target: s.name, Workload: w.Name, Wall: wall}
	for i := range w.Clients {
		sample := Sample{Client: i, Chunks: []time.Duration{wall / 2, wall}, End: wall, Tokens: 2, Text: s.text}
		if s.fails {
			sample.Err = "refused"
		}
		r.Samples = append(r.Samples, sample)
	}
	return r, nil
}

func seconds64(s ...float64) []time.Duration {
	d := make([]time.Duration, len(s))
	for i, x := range s {
		d[i] = time.Duration(x * float64(time.Second))
	}
	return d
}

func TestMeasureAlternatesAndComparesRoundByRound(t *testing.T) {
	var ran []string
	a := &scripted{name: "a", walls: seconds64(2, 8, 3), text: "the same", ran: &ran}
	b := &scripted{name: "b", walls: seconds64(1, 2, 3), text: "the sane", ran: &ran}
	c := &scripted{name: "c", walls: seconds64(4), refus: "disjoint"}
	run, err := Measure(t.Context(), []Subject{a, b, c}, "disjoint", someOptions, 3, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(ran, ""); got != "abbaab" {
		t.Errorf("order of runs: %s", got)
	}
	for round := range 3 {
		if a.seen[round].Clients[0][0].Messages[0] != b.seen[round].Clients[0][0].Messages[0] {
			t.Errorf("round %d has two workloads", round)
		}
		if round > 0 && a.seen[round].Clients[0][0].Messages[0] == a.seen[0].Clients[0][0].Messages[0] {
			t.Errorf("round %d repeats the first one's prompts", round)
		}
	}
	if len(run.Subjects) != 2 || len(c.seen) > 0 {
		t.Fatalf("a subject that does not take the workload was measured: %+v", run)
	}
	want := Spread{Median: 2, Min: 1, Max: 4}
	if len(run.Ratios) != 1 || run.Ratios[0].Over != "a" || run.Ratios[0].Under != "b" || run.Ratios[0].Figures["wall_s"] != want || run.Ratios[0].Figures["ttft_p50_s"] != want {
		t.Errorf("ratios %+v", run.Ratios)
	}
	if run.Compare == nil || run.Compare.Equal != 0 || run.Compare.Answers != 24 || run.Compare.Differ[0].Prefix != 6 {
		t.Errorf("compare %+v", run.Compare)
	}
	var out bytes.Buffer
	run.Write(&out)
	for _, pattern := range []string{
		`(?m)^### disjoint: each client`, `(?m)^8 requests of 50 words and 64 tokens, seed 7, rounds: 3$`,
		`(?m)^\| a +\| 3\.00 \(2\.00…8\.00\) \| +5\.3 \| +1\.500 \|`, `(?m)^\| b +\| 2\.00 .* 0 \|$`,
		`(?m)^\| ratio +\| +wall \|`, `(?m)^\| a / b \| 2 \(1…4\) \|`, `0 of 24 answers of a are b's`, `after 6 \(6…6\) characters of 8`,
	} {
		if !regexp.MustCompile(pattern).MatchString(out.String()) {
			t.Errorf("not printed: %s", pattern)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

func TestFailedRequestsAreNeverHidden(t *testing.T) {
	var progress bytes.Buffer
	a := &scripted{name: "a", walls: seconds64(1), fails: true}
	b := &scripted{name: "b", walls: seconds64(1)}
	run, err := Measure(t.Context(), []Subject{a, b}, "disjoint", someOptions, 2, true, NewProgress(&progress, 4))
	if err != nil {
		t.Fatal(err)
	}
	report := Report{Runs: []WorkloadRun{run}}
	if err := report.Failures(); err == nil || err.Error() != "16 of 32 requests failed" {
		t.Errorf("got %v", err)
	}
	if failed, all := run.Subjects[0].Failed(); failed != 16 || all != 16 || len(run.Subjects[0].Errors) != 3 || run.Compare.Answers != 0 {
		t.Errorf("%d of %d, errors %v, compared %+v", failed, all, run.Subjects[0].Errors, run.Compare)
	}
	for _, want := range []string{"[4/4] round 2 of 2: a, 8 × disjoint: 1.00 s\n", "  error: a: refused\n", "  … and 5 more errors\n"} {
		if !strings.Contains(progress.String(), want) {
			t.Errorf("progress lacks %q:\n%s", want, &progress)
		}
	}
	// What has no value is not in the JSON, and not a number in the table.
	if _, ok := run.Ratios[0].Figures["ttft_p50_s"]; ok {
		t.Errorf("a ratio of nothing: %+v", run.Ratios)
	}
	if _, err := json.Marshal(report); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	run.Write(&out)
	if !strings.Contains(out.String(), "–") || strings.Contains(out.String(), "NaN") {
		t.Errorf("table:\n%s", &out)
	}
}

func TestASubjectThatCannotRunEndsTheMeasurement(t *testing.T) {
	lost := errors.New("lost")
	if _, err := Measure(t.Context(), []Subject{broken{lost}}, "single", someOptions, 1, false, nil); !errors.Is(err, lost) || !strings.Contains(err.Error(), "broken, single") {
		t.Errorf("got %v", err)
	}
	choosy := &scripted{refus: "single"}
	if _, err := Measure(t.Context(), []Subject{choosy}, "single", someOptions, 1, false, nil); err == nil || !strings.Contains(err.Error(), "workload single") {
		t.Errorf("nobody to measure: got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(lost)
	s := &scripted{name: "a", walls: seconds64(1)}
	if _, err := Measure(ctx, []Subject{s}, "single", someOptions, 1, false, nil); !errors.Is(err, lost) || len(s.seen) > 0 {
		t.Errorf("got %v after %d runs", err, len(s.seen))
	}
}

type broken struct{ err error }

func (broken) Info() Info                                      { return Info{Name: "broken"} }
func (broken) Takes(string) bool                               { return true }
func (b broken) Run(context.Context, Workload) (Result, error) { return Result{}, b.err }

func TestCompare(t *testing.T) {
	result := func(texts ...string) Result {
		r := Result{Target: "x"}
		for i, text := range texts {
			r.Samples = append(r.Samples, Sample{Client: i / 2, Turn: i % 2, Text: text})
		}
		return r
	}
	of, with := result("same", "größer", "gone", "", "failed"), result("same", "größte!", "gone on", "x", "failed")
	of.Samples[4].Err = "cut"
	with.Samples[0], with.Samples[1] = with.Samples[1], with.Samples[0] // in any order
	got := Compare([]Result{of}, []Result{with})
	want := []Difference{{Client: 0, Turn: 1, Prefix: 4, Length: 7}, {Client: 1, Turn: 0, Prefix: 4, Length: 7}, {Client: 1, Turn: 1, Prefix: 0, Length: 1}}
	if got.Answers != 4 || got.Equal != 1 || !slices.Equal(got.Differ, want) {
		t.Errorf("got %+v", got)
	}
	var out bytes.Buffer
	got.Write(&out)
	if !strings.Contains(out.String(), "1 of 4 answers") || !strings.Contains(out.String(), "part after 4 (0…4) characters of 7 (1…7), median") {
		t.Errorf("got %s", &out)
	}
}

func TestReportIsWrittenWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "report.json")
	f, err := NewFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name); err == nil {
		t.Error("there before it is written")
	}
	f.Discard()
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	a := &scripted{name: "a", walls: seconds64(1)}
	run, err := Measure(t.Context(), []Subject{a}, "single", someOptions, 2, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Report{Began: time.Now().UTC(), Machine: Machine(), Command: []string{"llamero", "bench"}, Rounds: 2, Subjects: []Info{a.Info()}, Runs: []WorkloadRun{run}}
	if f, err = NewFile(name); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteJSON(want); err != nil {
		t.Fatal(err)
	}
	f.Discard()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Runs) != 1 || got.Runs[0].Subjects[0].Rounds[1] != run.Subjects[0].Rounds[1] || got.Machine != want.Machine {
		t.Errorf("read back: %+v", got)
	}
	for _, field := range []string{`"wall_ns": 1000000000`, `"ttft_ns": {`, `"p99": 500000000`, `"seed": 7`} {
		if !strings.Contains(string(b), field) {
			t.Errorf("the JSON lacks %s:\n%s", field, b)
		}
	}
	if _, err := NewFile(filepath.Join(dir, "none", "report.json")); err == nil {
		t.Error("a folder that is not there")
	}
}

func TestTableIsMarkdown(t *testing.T) {
	var out bytes.Buffer
	table := NewTable("", "wall s")
	table.Row("größer", "1.5")
	table.Row("x", "1…22.25")
	table.Write(&out)
	const want = "" +
		"|        |  wall s |\n" +
		"| ------ | ------: |\n" +
		"| größer |     1.5 |\n" +
		"| x      | 1…22.25 |\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
}
