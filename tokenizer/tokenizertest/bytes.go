// Package tokenizertest has a vocabulary of bytes, for tests that want text
// without a model.
package tokenizertest

import (
	"strings"

	"llamero/tokenizer"
)

// The vocabulary: one token a byte, the byte itself, then control tokens.
const (
	Start = 256 + iota // <|im_start|>
	End                // <|im_end|>, which ends an answer
	BOS                // <s>
	Len
)

// Vocab returns the vocabulary.
func Vocab() *tokenizer.Vocab {
	pieces := make([]string, Len)
	attrs := make([]tokenizer.Attr, Len)
	for i := range 256 {
		pieces[i] = string([]byte{byte(i)})
	}
	pieces[Start], pieces[End], pieces[BOS] = "<|im_start|>", "<|im_end|>", "<s>"
	attrs[Start] = tokenizer.AttrControl
	attrs[End] = tokenizer.AttrControl | tokenizer.AttrEOG
	attrs[BOS] = tokenizer.AttrControl
	return tokenizer.NewVocab(pieces, attrs, BOS, End)
}

// Bytes is a Tokenizer over Vocab.
type Bytes struct{ V *tokenizer.Vocab }

// Vocab implements tokenizer.Tokenizer.
func (t Bytes) Vocab() *tokenizer.Vocab { return t.V }

// Encode implements tokenizer.Tokenizer.
func (t Bytes) Encode(text string, opt tokenizer.EncodeOptions) ([]tokenizer.Token, error) {
	return tokenizer.EncodeWith(func(text string, special, parse bool) ([]tokenizer.Token, error) {
		var out []tokenizer.Token
		if special {
			out = append(out, BOS)
		}
	next:
		for i := 0; i < len(text); {
			if parse {
				for c := tokenizer.Token(Start); c < Len; c++ {
					if strings.HasPrefix(text[i:], t.V.Piece(c)) {
						out = append(out, c)
						i += len(t.V.Piece(c))
						continue next
					}
				}
			}
			out = append(out, tokenizer.Token(text[i]))
			i++
		}
		return out, nil
	}, t.V, text, opt)
}
