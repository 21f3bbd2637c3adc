package worker

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"sync/atomic"
	"time"

	"llamero/engine"
	"llamero/engine/llama"
	"llamero/tokenizer"
)

// Tokenizer is a tokenizer that says what model it is of; *llama.Tokenizer is one.
type Tokenizer interface {
	tokenizer.Tokenizer
	Info() llama.Info
	Close() error
}

const (
	// maxEncode bounds a text, so that its tokens fit a frame.
	maxEncode = 48 << 20
	// A text may take this long: the worst ones, a letter repeated, take 2.5 s a MiB.
	encodeBase  = 5 * time.Second
	encodePerMB = 15 * time.Second
	// encodeWait is how long a text waits for a tokenizer that is being started.
	encodeWait = 20 * time.Second
)

var errEncoderLost = errors.New("the tokenizer's process ended")

// Encoder tokenises in a process of its own. It is safe for concurrent use. Tokens to
// text needs no process: the piece table came once.
type Encoder struct {
	keeper *keeper[*encoderChild]
	vocab  *tokenizer.Vocab
	info   llama.Info

	// alone is held for writing by a text that is tried again after the process ended
	// with it, perhaps because of it.
	alone sync.RWMutex
}

var (
	_ Tokenizer = (*Encoder)(nil)
	_ Tokenizer = (*llama.Tokenizer)(nil)
)

// StartEncoder starts a tokenizer's process for a GGUF's vocabulary and returns once
// it has loaded.
func StartEncoder(p Process, lib, model string) (*Encoder, error) {
	e := &Encoder{}
	var sum uint32
	k, err := keep("tokenizer", p.logger(), func(ctx context.Context) (*encoderChild, error) {
		c, err := startEncoder(ctx, p, lib, model)
		if err != nil {
			return nil, err
		}
		if e.vocab == nil {
			e.vocab, e.info, sum = c.vocab, c.info, c.sum
		} else if sum != c.sum {
			c.quit()
			return nil, errors.New("the vocabulary is not what it was: the model file has been replaced; restart the gateway")
		}
		c.vocab = nil
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	e.keeper = k
	return e, nil
}

// encoderChild is the gateway's side of a tokenizer's process.
type encoderChild struct {
	*link
	table chan struct{} // closed when vocab is there
	vocab *tokenizer.Vocab
	info  llama.Info
	sum   uint32 // of the piece table as it came

	ids     atomic.Uint64
	answers atomic.Int64 // that have come

	mu       sync.Mutex
	requests map[uint64]*request
}

func (c *encoderChild) lifeline() *link { return c.link }

func (c *encoderChild) worked() bool { return c.answers.Load() > 0 }

func startEncoder(ctx context.Context, p Process, lib, model string) (*encoderChild, error) {
	cmd, err := p.command(roleTokenizer)
	if err != nil {
		return nil, err
	}
	h := hello{Protocol: protocol, Build: build(), Role: roleTokenizer, Level: level(p.logger()), Options: llama.Options{Lib: lib, Model: model}}
	c := &encoderChild{table: make(chan struct{}), requests: make(map[uint64]*request)}
	if c.link, err = dial(cmd); err != nil {
		return nil, err
	}
	c.open(h, c.handle)
	r, err := c.await(ctx)
	if err != nil {
		return nil, err
	}
	c.info = r.Info
	select {
	case <-c.table:
		return c, nil
	case <-c.gone:
		return nil, fmt.Errorf("the tokenizer's process ended: %s", c.reason())
	}
}

// handle is called on the link's goroutine.
func (c *encoderChild) handle(k kind, b []byte) error {
	switch k {
	case kindVocab:
		select {
		case <-c.table:
			return errors.New("a second vocabulary")
		default:
		}
		v, err := decodeVocab(b)
		if err != nil {
			return fmt.Errorf("the vocabulary: %w", err)
		}
		c.vocab, c.sum = v, crc32.Checksum(b, castagnoli)
		close(c.table)
		return nil
	case kindTokens:
		id, a, err := decodeAnswer(b)
		if err != nil {
			return err
		}
		c.mu.Lock()
		r := c.requests[id]
		delete(c.requests, id)
		c.mu.Unlock()
		if r == nil {
			return fmt.Errorf("an answer to text %d, which nobody sent", id)
		}
		c.answers.Add(1)
		r.reply <- a
		return nil
	}
	return fmt.Errorf("a frame of kind %d", k)
}

// encode sends a text and waits for its tokens.
func (c *encoderChild) encode(text string, opt tokenizer.EncodeOptions) ([]engine.Token, error) {
	r := &request{id: c.ids.Add(1), text: text, opt: opt, reply: make(chan answer, 1)}
	c.mu.Lock()
	c.requests[r.id] = r
	c.mu.Unlock()
	b := c.out.begin(kindEncode)
	c.out.end(appendRequest(b, r))
	if err := c.out.send(); err != nil {
		<-c.gone
		return nil, errEncoderLost
	}
	limit := time.NewTimer(encodeBase + time.Duration(len(text))*encodePerMB/(1<<20))
	defer limit.Stop()
	for {
		select {
		case a := <-r.reply:
			return a.tokens, a.err
		case <-limit.C:
			c.abort(fmt.Sprintf("a text of %d bytes takes far longer than any should", len(text)))
		case <-c.gone:
			select {
			case a := <-r.reply:
				return a.tokens, a.err
			default:
				return nil, errEncoderLost
			}
		}
	}
}

// Encode implements tokenizer.Tokenizer.
func (e *Encoder) Encode(text string, opt tokenizer.EncodeOptions) ([]tokenizer.Token, error) {
	return tokenizer.EncodeWith(e.native, e.vocab, text, opt)
}

// native tokenises well-formed text in the child. A text that was on its way when the
// child ended is tried once more, by itself: if the next child ends with it too, it is
// what ended them.
func (e *Encoder) native(text string, addSpecial, parseSpecial bool) ([]tokenizer.Token, error) {
	if len(text) > maxEncode {
		longest := max(1, e.vocab.LongestPiece())
		return nil, &tokenizer.TooLongError{Bytes: len(text), Tokens: len(text) / longest, Limit: maxEncode / longest}
	}
	opt := tokenizer.EncodeOptions{AddSpecial: addSpecial, ParseSpecial: parseSpecial}
	e.alone.RLock()
	tokens, err := e.once(text, opt)
	e.alone.RUnlock()
	if !errors.Is(err, errEncoderLost) {
		return tokens, err
	}
	e.alone.Lock()
	defer e.alone.Unlock()
	tokens, err = e.once(text, opt)
	if errors.Is(err, errEncoderLost) {
		return nil, fmt.Errorf("%w: the tokenizer ends on it", tokenizer.ErrUnencodable)
	}
	return tokens, err
}

func (e *Encoder) once(text string, opt tokenizer.EncodeOptions) ([]tokenizer.Token, error) {
	ctx, cancel := context.WithTimeout(context.Background(), encodeWait)
	defer cancel()
	c, err := e.keeper.wait(ctx)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: no process: %w", err)
	}
	return c.encode(text, opt)
}

// Vocab implements tokenizer.Tokenizer.
func (e *Encoder) Vocab() *tokenizer.Vocab { return e.vocab }

// Info says what the model is.
func (e *Encoder) Info() llama.Info { return e.info }

// Ready reports whether the process runs.
func (e *Encoder) Ready() bool {
	c, _, _ := e.keeper.get()
	return c != nil
}

// Close ends the process; Encode fails from then on.
func (e *Encoder) Close() error {
	e.keeper.close()
	return nil
}
