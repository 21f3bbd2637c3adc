package plots

import (
	"encoding/xml"
	"errors"
	"image"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/plot"

	"llamero/bench"
)

func milliseconds(n float64) time.Duration { return time.Duration(n * float64(time.Millisecond)) }

// rounds are summaries around the given figures.
func rounds(tokensPerSecond, ttftMS, itlMS float64) []bench.Summary {
	var all []bench.Summary
	for _, drift := range []float64{0.93, 1, 1.1} {
		all = append(all, bench.Summary{Requests: 4, Wall: milliseconds(4000 * drift), TokensPerSecond: tokensPerSecond / drift,
			TTFT: bench.Latency{P50: milliseconds(ttftMS * drift)}, ITL: bench.Latency{P99: milliseconds(itlMS * drift)}})
	}
	return all
}

func spread(x float64) bench.Spread { return bench.Spread{Median: x, Min: x * 0.9, Max: x * 1.15} }

// sweep has three subjects, of which the last is not there for the last value.
func sweep(name string, log bool, values []float64, labels ...string) bench.Sweep {
	s := bench.Sweep{Name: name, Axis: name, Log: log, Workload: "disjoint", Options: bench.Options{Clients: 8, Words: 256, Tokens: 64},
		Figures: []string{"ms_per_token", "ttft_p50_s", "itl_p99_ms"}}
	for k, subject := range []string{"llamero", "llama-server", "raw"} {
		c := bench.Curve{Subject: subject}
		for i, v := range values {
			if k == 2 && len(values) > 1 && i == len(values)-1 {
				break
			}
			f := float64(k+2) / 2
			c.Points = append(c.Points, bench.Point{Value: v, Label: labels[i], Figures: map[string]bench.Spread{
				"ms_per_token": spread(12 * f / (1 + float64(i)/3)), "ttft_p50_s": spread(0.05 * f * v), "itl_p99_ms": spread(f * (20 + 6*v))}})
		}
		s.Curves = append(s.Curves, c)
	}
	return s
}

func report() bench.Report {
	r := bench.Report{Rounds: 3}
	for i, name := range []string{"single", "shared", "disjoint", "ragged"} {
		f := float64(i + 1)
		r.Runs = append(r.Runs, bench.WorkloadRun{Workload: name, Options: bench.Options{Words: 256, Tokens: 64}, Subjects: []bench.SubjectRun{
			{Subject: "llamero", Rounds: rounds(90*f, 40*f*f*f, 60*f)},
			{Subject: "llama-server", Rounds: rounds(80*f, 41*f*f*f, 400*f)},
			{Subject: "raw", Rounds: rounds(95*f, 30*f*f*f, 50*f)},
		}})
	}
	r.Sweeps = []bench.Sweep{
		sweep("clients", true, []float64{1, 2, 4, 8, 16, 32, 64}, "1", "2", "4", "8", "16", "32", "64"),
		sweep("target-itl", true, []float64{400}, "400ms"),
		{Name: "fill", About: "8 streams decode", Axis: "share of the pool's tokens that others hold", Figures: []string{bench.StepFigure}, Curves: []bench.Curve{{Subject: "raw, split layout", Points: []bench.Point{
			{Value: 0.05, Label: "0.05", Figures: map[string]bench.Spread{bench.StepFigure: spread(15)}},
			{Value: 0.5, Label: "0.5", Figures: map[string]bench.Spread{bench.StepFigure: spread(16)}},
			{Value: 1, Label: "1", Figures: map[string]bench.Spread{bench.StepFigure: spread(15)}}}}}},
		sweep("clients", true, []float64{1, 8}, "1", "8"),
	}
	return r
}

// LLAMERO_PLOTS names a folder to look at the pictures in.
func TestPicturesAreDrawn(t *testing.T) {
	dir := os.Getenv("LLAMERO_PLOTS")
	if dir == "" {
		dir = filepath.Join(t.TempDir(), "new", "folder")
	}
	files, err := Write(dir, report())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(f))
		switch filepath.Ext(f) {
		case ".png":
			checkPNG(t, f)
		case ".svg":
			checkSVG(t, f)
		}
	}
	want := []string{"workloads.png", "workloads.svg", "sweep-clients-disjoint.png", "sweep-clients-disjoint.svg",
		"sweep-target-itl-disjoint.png", "sweep-target-itl-disjoint.svg", "sweep-fill.png", "sweep-fill.svg",
		"sweep-clients-disjoint-2.png", "sweep-clients-disjoint-2.svg"}
	if !slices.Equal(names, want) {
		t.Errorf("got  %v\nwant %v", names, want)
	}
}

// checkPNG wants a picture in which every subject's colour shows, and mostly white.
func checkPNG(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	subjects := 3
	if strings.Contains(name, "fill") {
		subjects = 1
	}
	white, all := 0, 0
	seen := make([]int, len(palette))
	bounds := img.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			r, g, b := rgb(img, x, y)
			all++
			if r == 255 && g == 255 && b == 255 {
				white++
			}
			for i, c := range palette {
				if r == c.R && g == c.G && b == c.B {
					seen[i]++
				}
			}
		}
	}
	if bounds.Dx() < 500 || bounds.Dy() < 400 || white < all*7/10 || white > all*99/100 {
		t.Errorf("%s: %v, %d of %d pixels are white", name, bounds, white, all)
	}
	for i := range palette {
		if (seen[i] > 20) != (i < subjects) {
			t.Errorf("%s: %d pixels have the colour of subject %d of %d", name, seen[i], i, subjects)
		}
	}
}

func rgb(img image.Image, x, y int) (r, g, b uint8) {
	r16, g16, b16, _ := img.At(x, y).RGBA()
	return uint8(r16 >> 8), uint8(g16 >> 8), uint8(b16 >> 8)
}

// checkSVG wants well-formed XML with lines and text in it.
func checkSVG(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	counts := map[string]int{}
	for d := xml.NewDecoder(f); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if e, ok := token.(xml.StartElement); ok {
			counts[e.Name.Local]++
		}
	}
	if counts["svg"] != 1 || counts["path"] < 10 || counts["text"] < 8 {
		t.Errorf("%s: got %v", name, counts)
	}
}

func TestNothingMeasuredIsDrawnEmpty(t *testing.T) {
	s := sweep("words", true, []float64{100, 200}, "100", "200")
	for i := range s.Curves {
		for k := range s.Curves[i].Points {
			s.Curves[i].Points[k].Figures = nil // every request failed
		}
	}
	if _, err := Write(t.TempDir(), bench.Report{Sweeps: []bench.Sweep{s, {Name: "rate", Figures: []string{"wall_s"}}}}); err != nil {
		t.Error(err)
	}
	if files, err := Write(t.TempDir(), bench.Report{}); err != nil || len(files) > 0 {
		t.Errorf("an empty report: got %v, %v", files, err)
	}
}

func TestTicks(t *testing.T) {
	tests := []struct {
		ticker    plot.Ticker
		low, high float64
		want      string
	}{
		{oneTwoFive{}, 0.04, 3, "0.05 0.1 0.2 0.5 1 2"},
		{even{}, 0, 1, "0 0.2 0.4 0.6 0.8 1"},
		{even{}, 0, 30, "0 5 10 15 20 25 30"},
		{even{}, 0, 97.2, "0 20 40 60 80"},
		{even{}, 0, 0.0044, "0 0.001 0.002 0.003 0.004"},
	}
	for _, test := range tests {
		var labels []string
		for _, tick := range test.ticker.Ticks(test.low, test.high) {
			labels = append(labels, tick.Label)
		}
		if got := strings.Join(labels, " "); got != test.want {
			t.Errorf("%g to %g: got %s, want %s", test.low, test.high, got, test.want)
		}
	}
}

func TestPointsAreDrawn(t *testing.T) {
	dir := os.Getenv("LLAMERO_PLOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	few := []bench.Spread{bench.NewSpread([]float64{1, 2, 3}), bench.NewSpread(nil), bench.NewSpread([]float64{40})}
	b := Points{Title: "three things", Names: []string{"one", "two", "three"},
		Panels: []PointPanel{{Label: "tok/s", Values: few}, {Label: "nats", Values: few}, {Label: "bytes", Values: few}}}
	files, err := WritePoints(dir, "points", b)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2 {
		t.Fatalf("files %v", files)
	}
	checkPNG(t, files[0])
	checkSVG(t, files[1])
	b.Panels[1].Values = few[:2]
	if _, err := WritePoints(dir, "points", b); err == nil || !strings.Contains(err.Error(), "2 values for 3 names") {
		t.Errorf("a value is missing: %v", err)
	}
}
