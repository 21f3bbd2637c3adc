package tokenizer

// Token is an index into a model's vocabulary.
type Token int32

// None is the token that is not there (a model without a BOS, say).
const None Token = -1

// Tokenizer turns text into tokens. Tokens to text needs no native call: see Vocab.
// Implementations are safe for concurrent use.
type Tokenizer interface {
	// Encode tokenises text. Text of any kind is taken: NUL bytes become their byte
	// tokens and invalid UTF-8 becomes U+FFFD; what the vocabulary cannot express at
	// all is an error.
	Encode(text string, opt EncodeOptions) ([]Token, error)
	// Vocab returns the piece table, which never changes.
	Vocab() *Vocab
}

// EncodeOptions says how text is read.
type EncodeOptions struct {
	// AddSpecial adds the tokens that the model wants around a text (BOS, mostly).
	AddSpecial bool
	// ParseSpecial reads spelled control tokens ("<|im_end|>") as those tokens.
	// Text that a user wrote must never be encoded so.
	ParseSpecial bool
	// MaxTokens bounds the work: a text that cannot fit into so many tokens is
	// refused with ErrTooLong, where possible before it is tokenised. 0 is no bound.
	MaxTokens int
}

// Attr is a set of a token's attributes.
type Attr uint8

const (
	AttrControl Attr = 1 << iota // steers the model and has no text of its own
	AttrEOG                      // ends a generation (EOS, EOT, ...)
	AttrByte                     // stands for one byte
	AttrUser                     // user-defined: matched in text even without ParseSpecial
	AttrUnknown                  // the unknown token
	AttrUnused                   // a hole in the vocabulary
)
