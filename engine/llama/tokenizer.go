package llama

import (
	"errors"
	"fmt"
	"sync"

	"github.com/hybridgroup/yzma/pkg/llama"

	"llamero/tokenizer"
)

// Tokenizer tokenises with a model's own vocabulary, loaded without its weights.
// It is safe for concurrent use.
type Tokenizer struct {
	info  Info
	vocab *tokenizer.Vocab

	mu     sync.RWMutex // held for reading while libllama reads the vocabulary
	model  llama.Model
	native llama.Vocab
}

var _ tokenizer.Tokenizer = (*Tokenizer)(nil)

// OpenTokenizer loads the vocabulary of a GGUF.
func OpenTokenizer(lib, path string) (*Tokenizer, error) {
	if err := load(lib); err != nil {
		return nil, err
	}
	params := llama.ModelDefaultParams()
	params.VocabOnly = 1
	model, err := loadModel(path, params)
	if err != nil {
		return nil, err
	}
	native := llama.ModelGetVocab(model)
	n := int(llama.VocabNTokens(native))
	if n <= 0 || llama.GetVocabType(native) == llama.VocabTypeNone {
		llama.ModelFree(model)
		return nil, fmt.Errorf("model: %s has no vocabulary", path)
	}
	t := &Tokenizer{model: model, native: native, info: readInfo(model)}
	pieces := make([]string, n)
	attrs := make([]tokenizer.Attr, n)
	buf := make([]byte, 256)
	for i := range n {
		token := llama.Token(i)
		size := llama.TokenToPiece(native, token, buf, 0, true)
		if size < 0 {
			buf = make([]byte, -size)
			size = llama.TokenToPiece(native, token, buf, 0, true)
		}
		pieces[i] = string(buf[:max(0, size)])
		attrs[i] = attributes(native, token)
	}
	t.vocab = tokenizer.NewVocab(pieces, attrs, token(llama.VocabBOS(native)), token(llama.VocabEOS(native)))
	return t, nil
}

func token(t llama.Token) tokenizer.Token {
	if t == llama.TokenNull {
		return tokenizer.None
	}
	return tokenizer.Token(t)
}

func attributes(v llama.Vocab, t llama.Token) tokenizer.Attr {
	var out tokenizer.Attr
	in := llama.VocabGetAttr(v, t)
	for _, x := range []struct {
		in  llama.TokenAttr
		out tokenizer.Attr
	}{
		{llama.TokenAttrControl, tokenizer.AttrControl},
		{llama.TokenAttrByte, tokenizer.AttrByte},
		{llama.TokenAttrUserDef, tokenizer.AttrUser},
		{llama.TokenAttrUnknown, tokenizer.AttrUnknown},
		{llama.TokenAttrUnused, tokenizer.AttrUnused},
	} {
		if in&x.in != 0 {
			out |= x.out
		}
	}
	if llama.VocabIsEOG(v, t) {
		out |= tokenizer.AttrEOG
	}
	return out
}

// Vocab implements tokenizer.Tokenizer.
func (t *Tokenizer) Vocab() *tokenizer.Vocab { return t.vocab }

// Info says what the model is.
func (t *Tokenizer) Info() Info { return t.info }

// Close frees the vocabulary; Encode fails from then on.
func (t *Tokenizer) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.model != 0 {
		llama.ModelFree(t.model)
		t.model, t.native = 0, 0
	}
	return nil
}

// Encode implements tokenizer.Tokenizer.
func (t *Tokenizer) Encode(text string, opt tokenizer.EncodeOptions) ([]tokenizer.Token, error) {
	return tokenizer.EncodeWith(t.encode, t.vocab, text, opt)
}

// encode is given text without NUL bytes and in valid UTF-8, which libllama needs.
func (t *Tokenizer) encode(text string, addSpecial, parseSpecial bool) ([]tokenizer.Token, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.native == 0 {
		return nil, errors.New("tokenizer: closed")
	}
	native := llama.Tokenize(t.native, text, addSpecial, parseSpecial)
	out := make([]tokenizer.Token, len(native))
	for i, x := range native {
		out[i] = tokenizer.Token(x)
	}
	return out, nil
}
