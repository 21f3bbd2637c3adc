package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The table of faults: each test of one writes a row with its figures. `make faults`
// names a folder for the rows, has every fault at full size, holds the figures against
// their goals and prints the table; else the tests are small, since the machine may be
// shared and slow, and hold only what does not depend on time.
var (
	faultsDir = os.Getenv("LLAMERO_FAULTS")
	fullSize  = faultsDir != ""
)

// sized is how many of something a fault takes.
func sized(short, long int) int {
	if fullSize {
		return long
	}
	return short
}

// burdened starts a gateway that a fault is done to. In small it has one thread, since
// threads that wait for one another are slow on a machine that does other things.
func burdened(t *testing.T, env []string, args ...string) *gateway {
	t.Helper()
	if !fullSize {
		args = append(args, "--threads", "1")
	}
	return own(t, env, append(args, "--queue-timeout", "10m")...)
}

// faultRow is a line of the table.
type faultRow struct {
	Place   int
	Fault   string
	Figures []string
	Held    bool
}

// newRow begins a row, which is written when the test has ended. It is called before
// all that has to be cleaned up, which may fail the test.
func newRow(t *testing.T, place int, what string) *faultRow {
	t.Helper()
	r := &faultRow{Place: place, Fault: what}
	t.Cleanup(func() {
		if t.Skipped() {
			return
		}
		r.Held = !t.Failed()
		t.Logf("%s: %s", r.Fault, strings.Join(r.Figures, "; "))
		if !fullSize {
			return
		}
		b, err := json.MarshalIndent(r, "", "  ")
		if err == nil {
			err = os.WriteFile(filepath.Join(faultsDir, fmt.Sprintf("%02d.json", r.Place)), b, 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	})
	return r
}

// figure adds a figure to a row.
func (r *faultRow) figure(format string, args ...any) {
	r.Figures = append(r.Figures, fmt.Sprintf(format, args...))
}

// writeFaults prints the rows of a folder as a Markdown table.
func writeFaults(w io.Writer, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return err
	}
	var rows []faultRow
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var r faultRow
		if err := json.Unmarshal(b, &r); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b faultRow) int { return cmp.Compare(a.Place, b.Place) })
	fmt.Fprint(w, "\n| fault | held | figures |\n| --- | --- | --- |\n")
	for _, r := range rows {
		held := "yes"
		if !r.Held {
			held = "**no**"
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", r.Fault, held, strings.Join(r.Figures, "; "))
	}
	return nil
}

// Places in the table.
const (
	rowKilled = iota + 1
	rowStopped
	rowPoison
	rowBodies
	rowSchemathesis
	rowDisconnects
	rowSlowReaders
	rowOverload
	rowRedis
	rowRedisLies
	rowDrain
	rowSlowloris
	rowTenants
	rowSoak
	rowStart
)

// worse reports whether rounds with a fault are worse than rounds without, beyond
// what either are spread: even the best of them is worse than the worst without.
func worse(with, without []float64) bool { return slices.Min(with) > slices.Max(without) }

// A table is its rows in order, whatever order they were written in.
func TestFaultTable(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"02.json": `{"Place":2,"Fault":"b","Figures":["1 s","2 s"],"Held":false}`,
		"01.json": `{"Place":1,"Fault":"a","Figures":null,"Held":true}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var b strings.Builder
	if err := writeFaults(&b, dir); err != nil {
		t.Fatal(err)
	}
	if want := "\n| fault | held | figures |\n| --- | --- | --- |\n| a | yes |  |\n| b | **no** | 1 s; 2 s |\n"; b.String() != want {
		t.Errorf("%q", b.String())
	}
	if worse([]float64{1.1, 1.3}, []float64{1, 1.2}) || !worse([]float64{1.3, 1.4}, []float64{1, 1.2}) {
		t.Error("overlapping rounds are worse, or separate ones are not")
	}
}
