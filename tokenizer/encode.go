package tokenizer

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrTooLong: the text cannot fit into EncodeOptions.MaxTokens.
	ErrTooLong = errors.New("the text is too long")
	// ErrUnencodable: the vocabulary has no token for a byte of the text.
	ErrUnencodable = errors.New("the vocabulary cannot express the text")
)

// TooLongError is ErrTooLong with its numbers.
type TooLongError struct {
	Bytes  int // length of the text
	Tokens int // how many tokens it has; if it was not tokenised, how many at least
	Limit  int // EncodeOptions.MaxTokens
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("the text of %d bytes has at least %d tokens; at most %d are allowed", e.Bytes, e.Tokens, e.Limit)
}

// Is makes the error an ErrTooLong.
func (e *TooLongError) Is(target error) bool { return target == ErrTooLong }

// Native tokenises text that is valid UTF-8 and has no NUL byte; it may be empty.
// See EncodeOptions for the flags.
type Native func(text string, addSpecial, parseSpecial bool) ([]Token, error)

// EncodeWith is Tokenizer.Encode over a library that takes only well-formed text.
// A NUL byte becomes the vocabulary's token for it (ErrUnencodable if there is none),
// and the text on either side of it is tokenised on its own. Invalid UTF-8 becomes
// U+FFFD, see Sanitise. Other bytes that the vocabulary lacks (some control
// characters, in SmolLM2) are left out by the library, as Hugging Face's does.
//
// A text that no opt.MaxTokens tokens can spell is refused before it is tokenised,
// other texts that turn out to have more, afterwards. The bound assumes that the
// library does not shorten text before it looks for pieces, which holds for the
// byte-pair and SentencePiece vocabularies of models that generate. Within it, time
// is proportional to length times its logarithm at worst: one letter repeated is the
// worst case, 1.6 s a MiB in llama.cpp (of spaces, 2.5 s), against 0.6 s for prose.
func EncodeWith(native Native, v *Vocab, text string, opt EncodeOptions) ([]Token, error) {
	if err := checkLength(v, len(text), opt.MaxTokens); err != nil {
		return nil, err
	}
	bytes := len(text)
	text = Sanitise(text)
	out, err := encodeNUL(native, v, text, opt)
	if err != nil {
		return nil, err
	}
	if opt.MaxTokens > 0 && len(out) > opt.MaxTokens {
		return nil, &TooLongError{Bytes: bytes, Tokens: len(out), Limit: opt.MaxTokens}
	}
	return out, nil
}

// checkLength refuses a length that is beyond what so many tokens can spell.
func checkLength(v *Vocab, bytes, maxTokens int) error {
	if maxTokens <= 0 || v.LongestPiece() == 0 {
		return nil
	}
	if least := (bytes-1)/v.LongestPiece() + 1; bytes > 0 && least > maxTokens {
		return &TooLongError{Bytes: bytes, Tokens: least, Limit: maxTokens}
	}
	return nil
}

// encodeNUL encodes valid UTF-8 that may have NUL bytes. It stops early beyond
// opt.MaxTokens: a text may be cut into very many parts.
func encodeNUL(native Native, v *Vocab, text string, opt EncodeOptions) ([]Token, error) {
	at := strings.IndexByte(text, 0)
	if at < 0 {
		return native(text, opt.AddSpecial, opt.ParseSpecial)
	}
	nul := v.ByteToken(0)
	if nul == None {
		return nil, fmt.Errorf("%w: it has a NUL byte, for which there is no token", ErrUnencodable)
	}
	var out, after []Token
	if opt.AddSpecial {
		// What the model wants around a text is what it wants around an empty one.
		around, err := native("", true, false)
		if err != nil {
			return nil, err
		}
		out = append(out, around...)
		if n := len(out); n > 0 && out[n-1] == v.EOS() && (n > 1 || v.EOS() != v.BOS()) {
			after = append(after, out[n-1])
			out = out[:n-1]
		}
	}
	for {
		part := text
		if at >= 0 {
			part = text[:at]
		}
		if part != "" {
			tokens, err := native(part, false, opt.ParseSpecial)
			if err != nil {
				return nil, err
			}
			out = append(out, tokens...)
		}
		if at < 0 || opt.MaxTokens > 0 && len(out) > opt.MaxTokens {
			break
		}
		out = append(out, nul)
		text = text[at+1:]
		at = strings.IndexByte(text, 0)
	}
	return append(out, after...), nil
}
