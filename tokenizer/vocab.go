package tokenizer

import "sync"

// Vocab is the piece table: what each token says, and which tokens are special.
// It is immutable once built and safe for concurrent use.
//
// A SentencePiece vocabulary puts a space before a text's first word; its pieces
// hold that space (" Hello"), and decoding leaves it where it is: an answer goes
// on behind a prompt, where the space belongs to it.
type Vocab struct {
	pieces   []string
	texts    []string // pieces, with "" for what says nothing in an answer
	attrs    []Attr
	bos, eos Token
	eog      []Token
	bytes    [256]Token // the token of each byte, or None
	longest  int        // bytes of the longest piece

	spellings func() *Spellings
}

// NewVocab builds a table; pieces[i] are the bytes of token i as it is rendered
// (a control token's spelling included: "<|im_end|>"), attrs[i] its attributes.
// Both slices are the vocabulary's from then on. A token without attributes in
// attrs is an ordinary one; bos and eos may be None.
func NewVocab(pieces []string, attrs []Attr, bos, eos Token) *Vocab {
	if len(attrs) < len(pieces) {
		attrs = append(attrs[:len(attrs):len(attrs)], make([]Attr, len(pieces)-len(attrs))...)
	}
	v := &Vocab{pieces: pieces, texts: make([]string, len(pieces)), attrs: attrs[:len(pieces)], bos: bos, eos: eos}
	for i := range v.bytes {
		v.bytes[i] = None
	}
	for i, p := range pieces {
		a := attrs[i]
		if a&silent == 0 {
			v.texts[i] = p
		}
		if a&AttrEOG != 0 {
			v.eog = append(v.eog, Token(i))
		}
		if len(p) == 1 && a&silent == 0 {
			// A byte token is meant for this; a one-letter piece does as well.
			if b := &v.bytes[p[0]]; *b == None || a&AttrByte != 0 && v.attrs[*b]&AttrByte == 0 {
				*b = Token(i)
			}
		}
		v.longest = max(v.longest, len(p))
	}
	v.spellings = sync.OnceValue(func() *Spellings { return newSpellings(v) })
	return v
}

// silent are the attributes of tokens that contribute nothing to an answer.
const silent = AttrControl | AttrUnknown

// Len is the vocabulary's size.
func (v *Vocab) Len() int { return len(v.pieces) }

// Valid reports whether t is in the vocabulary.
func (v *Vocab) Valid(t Token) bool { return uint32(t) < uint32(len(v.pieces)) }

// Piece returns a token's bytes, "" outside the vocabulary.
func (v *Vocab) Piece(t Token) string {
	if !v.Valid(t) {
		return ""
	}
	return v.pieces[t]
}

// Text returns what a token contributes to an answer: its piece, or "" for a
// control token and the unknown token.
func (v *Vocab) Text(t Token) string {
	if !v.Valid(t) {
		return ""
	}
	return v.texts[t]
}

// Attr returns a token's attributes.
func (v *Vocab) Attr(t Token) Attr {
	if !v.Valid(t) {
		return AttrUnknown
	}
	return v.attrs[t]
}

// EOG returns the tokens that end a generation. The caller must not change it.
func (v *Vocab) EOG() []Token { return v.eog }

// BOS returns the token that begins a text, or None.
func (v *Vocab) BOS() Token { return v.bos }

// EOS returns the token that ends a text, or None.
func (v *Vocab) EOS() Token { return v.eos }

// ByteToken returns the token that stands for one byte, or None.
func (v *Vocab) ByteToken(b byte) Token { return v.bytes[b] }

// LongestPiece is the length of the longest piece in bytes: n tokens spell at
// most n times that.
func (v *Vocab) LongestPiece() int { return v.longest }

// Spellings finds control tokens that are spelled out in text. It is built on
// first use.
func (v *Vocab) Spellings() *Spellings { return v.spellings() }
