package bench

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestParseSweep(t *testing.T) {
	good := []struct {
		text string
		want SweepSpec
	}{
		{"clients=1,2, 64", SweepSpec{"clients", []float64{1, 2, 64}, []string{"1", "2", "64"}}},
		{"words=200,100", SweepSpec{"words", []float64{100, 200}, []string{"100", "200"}}},
		{"target-itl=1s,50ms", SweepSpec{"target-itl", []float64{50, 1000}, []string{"50ms", "1s"}}},
		{"fill=0.05,1", SweepSpec{"fill", []float64{0.05, 1}, []string{"0.05", "1"}}},
		{"rate=.5", SweepSpec{"rate", []float64{0.5}, []string{".5"}}},
	}
	for _, test := range good {
		if got, err := ParseSweep(test.text); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v, %v", test.text, got, err)
		}
	}
	bad := []struct{ text, want string }{
		{"clients", "NAME=VALUE"},
		{"colour=1", "NAME=VALUE"},
		{"clients=", `"" is not a whole number`},
		{"clients=1,many,0", `"many" is not a whole number of 1…4096` + "\nclients: \"0\" is not"},
		{"fill=1.5", "at most 1"},
		{"rate=NaN", "above 0"},
		{"target-itl=5", "is not a time"},
		{"target-itl=2h", "is not a time"},
		{"words=100,200,100", "twice"},
		{"tokens=" + strings.Repeat("1,", 64) + "1", "more than 64"},
	}
	for _, test := range bad {
		if _, err := ParseSweep(test.text); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.text, err, test.want)
		}
	}
}

func mustParse(t *testing.T, text string) SweepSpec {
	t.Helper()
	s, err := ParseSweep(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSweepsAreChecked(t *testing.T) {
	for _, test := range []struct{ sweep, workload, want string }{
		{"clients=1,2", "disjoint", ""},
		{"fill=0.5", "single", ""},
		{"target-itl=50ms", "single", ""},
		{"clients=1,2", "single", "has one"},
		{"rate=1", "disjoint", "has none"},
		{"rate=1,0.001", "poisson", "rate=0.001: rate: 8 requests"},
	} {
		err := mustParse(t, test.sweep).Check(test.workload, someOptions)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s of %s: got %v, want %q", test.sweep, test.workload, err, test.want)
		}
	}
}

func TestMeasureSweep(t *testing.T) {
	a := &scripted{name: "a", walls: seconds64(1, 3, 2)}
	b := &scripted{name: "b", walls: seconds64(4), fails: true}
	c := &scripted{name: "c", walls: seconds64(4), refus: "disjoint"}
	sweep, err := MeasureSweep(t.Context(), mustParse(t, "clients=1,4"), []Subject{a, b, c}, "disjoint", someOptions, 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(sweep.Curves) != 2 || sweep.Curves[0].Subject != "a" || len(sweep.Curves[0].Points) != 2 {
		t.Fatalf("got %+v", sweep)
	}
	p := sweep.Curves[0].Points[1]
	if want := (Spread{250, 125, 375}); p.Value != 4 || p.Label != "4" || len(p.Rounds) != 3 || p.Figures["ms_per_token"] != want {
		t.Errorf("point %+v, want %v ms a token", p, want)
	}
	if failed := sweep.Curves[1].Points[0]; len(failed.Figures) > 0 && failed.Figures["ttft_p50_s"].Known() {
		t.Errorf("figures of failed requests: %+v", failed)
	}
	// No value's prompts begin like another's.
	begins := map[string]bool{}
	for _, w := range a.seen {
		begins[w.Clients[0][0].Messages[0].Content[:40]] = true
	}
	if len(begins) != 6 {
		t.Errorf("%d different prompts in 6 runs", len(begins))
	}
	if err := (Report{Sweeps: []Sweep{sweep}}).Failures(); err == nil || err.Error() != "15 of 30 requests failed" {
		t.Errorf("got %v", err)
	}
	if _, err := json.Marshal(sweep); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	sweep.Write(&out)
	for _, want := range []string{"### sweep over clients", "workload disjoint, 50 words a prompt, 64 tokens an answer.\n", " a ms a token |", "| b ITL p99 ms |", "| 4       |   250.00 (125.00…375.00) |", "12 |\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("not printed: %s\n%s", want, &out)
		}
	}
}

func TestMeasureEachMakesOneCurve(t *testing.T) {
	subjects := []Subject{&scripted{name: "llamero", walls: seconds64(1)}, &scripted{name: "llamero", walls: seconds64(2)}}
	sweep, err := MeasureEach(t.Context(), mustParse(t, "target-itl=50ms,1s"), subjects, "disjoint", someOptions, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(sweep.Curves) != 1 || len(sweep.Curves[0].Points) != 2 || !sweep.Log {
		t.Fatalf("got %+v", sweep)
	}
	if p := sweep.Curves[0].Points[1]; p.Label != "1s" || p.Value != 1000 || p.Figures["wall_s"].Median != 2 {
		t.Errorf("got %+v", p)
	}
}
