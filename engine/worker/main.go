package worker

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"llamero/engine/llama"
)

// Backend is what children are made of.
type Backend struct {
	Engine    func(llama.Options) (Engine, error)
	Tokenizer func(lib, model string) (Tokenizer, error)
}

// Llama is llama.cpp.
func Llama() Backend {
	return Backend{
		Engine:    func(o llama.Options) (Engine, error) { return llama.Open(o) },
		Tokenizer: func(lib, model string) (Tokenizer, error) { return llama.OpenTokenizer(lib, model) },
	}
}

// Main is a child: it serves the gateway that has started it and ends the process
// with it. It returns only if there is no gateway, or one of another build.
func Main(b Backend) error {
	conn, err := inherit()
	if err != nil {
		return err
	}
	in, out := newFrameReader(conn), newFrameWriter(conn)
	h, err := readHello(in)
	if err != nil {
		_ = sendReady(out, failed(err))
		return err
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: h.Level})))
	if err := restrict(); err != nil {
		slog.Debug("the child keeps rights that it does not need", "reason", err)
	}
	go pulse(out)
	switch h.Role {
	case roleEngine:
		err = serveEngine(b, h, in, out)
	default:
		err = serveTokenizer(b, h, in, out)
	}
	end(err)
	return nil
}

// pulse says twice a second that the process runs.
func pulse(out *frameWriter) {
	for range time.Tick(pulsePeriod) {
		if out.put(kindPulse) != nil {
			end(nil)
		}
	}
}

// end ends the process. The gateway's end, which is when the socket closes, is the
// usual reason; what the library holds is the system's to free.
func end(err error) {
	if err != nil && !gone(err) {
		slog.Error("a child process ends", "error", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// gone reports whether an error of the socket means that nobody is there.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || isBroken(err)
}

// serveTokenizer loads a vocabulary and tokenises what comes, a few texts at a time.
func serveTokenizer(b Backend, h hello, in *frameReader, out *frameWriter) error {
	t, err := b.Tokenizer(h.Options.Lib, h.Options.Model)
	if err != nil {
		return sendReady(out, failed(err))
	}
	if n := t.Vocab().Len(); n > maxVocab {
		return sendReady(out, failed(fmt.Errorf("model: a vocabulary of %d tokens; at most %d", n, maxVocab)))
	}
	if err := sendReady(out, ready{Info: t.Info()}); err != nil {
		return err
	}
	out.end(appendVocab(out.begin(kindVocab), t.Vocab()))
	if err := out.send(); err != nil {
		return err
	}
	room := make(chan struct{}, maxEncoding)
	for {
		k, payload, err := in.next()
		if err != nil {
			return err
		}
		if k != kindEncode {
			return fmt.Errorf("worker: a tokenizer was sent a frame of kind %d", k)
		}
		r, err := decodeRequest(payload)
		if err != nil {
			return err
		}
		room <- struct{}{}
		go func() {
			defer func() { <-room }()
			var a answer
			a.tokens, a.err = t.Encode(r.text, r.opt)
			out.end(appendAnswer(out.begin(kindTokens), r.id, a))
			if err := out.send(); err != nil {
				end(err)
			}
		}()
	}
}

// maxEncoding is how many texts are tokenised at once.
const maxEncoding = 16
