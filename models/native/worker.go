package native

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"llamero/engine/child"
	"llamero/engine/llama"
)

// Worker does pieces of work, each in a process of its own.
type Worker struct {
	Argv      []string // starts a process that calls Main
	Lib       string   // folder of llama.cpp's libraries
	Threads   int      // 0: GOMAXPROCS
	GPULayers int      // of models that are measured; negative: all
}

// task is what the child is to do: one of its fields is set.
type task struct {
	Quantize *quantizeTask
	Compare  *compareTask
	Speed    *speedTask
}

// message is what the child says: how far it is, or at the end what came out.
type message struct {
	Done, Total int
	Comparison  *Comparison
	Speed       *Speed
	Made        bool
	Err         string
}

func (m *message) last() bool { return m.Comparison != nil || m.Speed != nil || m.Made || m.Err != "" }

// do runs a task on a file. progress may be nil.
func (w Worker) do(ctx context.Context, file string, t task, progress func(done, total int)) (message, error) {
	var m message
	err := child.Run(ctx, w.Argv, t, func(d *json.Decoder) error {
		for {
			m = message{}
			if err := d.Decode(&m); errors.Is(err, io.EOF) {
				return errors.New("it ends without a result")
			} else if err != nil {
				return err
			}
			if m.last() {
				return nil
			}
			if progress != nil {
				progress(m.Done, m.Total)
			}
		}
	})
	var exit *child.Exit
	switch {
	case errors.As(err, &exit):
		return m, fmt.Errorf("llama.cpp broke off at %s (%w): %s", file, exit.Err, exit.LastLine())
	case err != nil:
		return m, err
	case m.Err != "":
		return m, errors.New(m.Err)
	}
	return m, nil
}

// Main is the child: it reads a task, does it, and says how it went.
func Main(in io.Reader, out io.Writer) error {
	var t task
	if err := json.NewDecoder(io.LimitReader(in, maxTask)).Decode(&t); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	enc := json.NewEncoder(out)
	var m message
	var err error
	switch {
	case t.Quantize != nil:
		err = t.Quantize.do(func(done, total int) { _ = enc.Encode(message{Done: done, Total: total}) })
		m.Made = err == nil
	case t.Compare != nil:
		m.Comparison, err = t.Compare.do(func(done, total int) { _ = enc.Encode(message{Done: done, Total: total}) })
	case t.Speed != nil:
		m.Speed, err = t.Speed.do()
	default:
		return errors.New("nothing to do")
	}
	if err != nil {
		m = message{Err: err.Error()}
	}
	return enc.Encode(m)
}

// maxTask bounds what a child is told, in bytes.
const maxTask = 16 << 20

func (w Worker) options(model string) llama.EvaluatorOptions {
	return llama.EvaluatorOptions{Lib: w.Lib, Model: model, GPULayers: w.GPULayers, Threads: w.Threads}
}
