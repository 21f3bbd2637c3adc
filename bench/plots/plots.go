package plots

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"llamero/bench"
)

// pngDPI makes a PNG sharp on dense screens.
const pngDPI = 144

// Write draws a report's pictures into a folder and returns the files' names.
func Write(dir string, r bench.Report) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	pictures := map[string]*picture{}
	var order []string
	add := func(name string, p *picture) {
		// Two sweeps over one option are two pictures.
		for n, unique := 2, name; ; n++ {
			if _, taken := pictures[unique]; !taken {
				name = unique
				break
			}
			unique = fmt.Sprintf("%s-%d", name, n)
		}
		pictures[name] = p
		order = append(order, name)
	}
	if len(r.Runs) > 0 {
		p, err := ofRuns(r)
		if err != nil {
			return nil, fmt.Errorf("plot of the workloads: %w", err)
		}
		add("workloads", p)
	}
	for _, s := range r.Sweeps {
		p, err := ofSweep(s)
		if err != nil {
			return nil, fmt.Errorf("plot of %s: %w", s.Name, err)
		}
		add(strings.Trim("sweep-"+s.Name+"-"+s.Workload, "-"), p)
	}
	var files []string
	for _, name := range order {
		written, err := save(filepath.Join(dir, name), pictures[name])
		if err != nil {
			return files, err
		}
		files = append(files, written...)
	}
	return files, nil
}

// save writes a picture in both formats.
func save(base string, p *picture) ([]string, error) {
	width, height := p.size()
	img := vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(pngDPI))
	svg := vgsvg.New(width, height)
	var files []string
	for _, f := range []struct {
		ext    string
		canvas vg.CanvasSizer
		out    io.WriterTo
	}{{".png", img, vgimg.PngCanvas{Canvas: img}}, {".svg", svg, svg}} {
		p.draw(draw.New(f.canvas))
		file, err := os.Create(base + f.ext)
		if err != nil {
			return files, err
		}
		_, err = f.out.WriteTo(file)
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return files, fmt.Errorf("%s: %w", file.Name(), err)
		}
		files = append(files, file.Name())
	}
	return files, nil
}
