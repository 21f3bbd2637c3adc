package tokenizer

import "strings"

// Segment is a part of a rendered prompt.
type Segment struct {
	Text string
	// Special: the template wrote it, or it spells no control token; spelled control
	// tokens are those tokens. Else spelled control tokens are text.
	Special bool
}

// JoinSegments returns the prompt as one text.
func JoinSegments(segs []Segment) string {
	if len(segs) == 1 {
		return segs[0].Text
	}
	var b strings.Builder
	for _, s := range segs {
		b.WriteString(s.Text)
	}
	return b.String()
}

// EncodeSegments tokenises a rendered prompt; opt.ParseSpecial is not looked at,
// each Segment says for itself.
//
// With opt.AddSpecial a prompt begins with the model's BOS, if the model wants one,
// exactly once: most templates write it themselves. What the model wants behind a
// text (EOS) is left out: a prompt goes on.
//
// Each segment is tokenised on its own. So a SentencePiece model that puts a space
// before a text puts one before each segment, too; there is more than one only
// where a message spells a control token.
func EncodeSegments(t Tokenizer, segs []Segment, opt EncodeOptions) ([]Token, error) {
	v := t.Vocab()
	bytes := 0
	for _, s := range segs {
		bytes += len(s.Text)
	}
	if err := checkLength(v, bytes, opt.MaxTokens); err != nil {
		return nil, err
	}
	if len(segs) == 0 {
		segs = []Segment{{}}
	}
	var out []Token
	for i, s := range segs {
		o := EncodeOptions{ParseSpecial: s.Special, MaxTokens: opt.MaxTokens}
		if i == 0 && opt.AddSpecial {
			bos := v.Piece(v.BOS())
			o.AddSpecial = !s.Special || bos == "" || !strings.HasPrefix(s.Text, bos)
		}
		tokens, err := t.Encode(s.Text, o)
		if err != nil {
			return nil, err
		}
		if o.AddSpecial {
			tokens = withoutEOS(v, s, tokens)
		}
		out = append(out, tokens...)
		if opt.MaxTokens > 0 && len(out) > opt.MaxTokens {
			return nil, &TooLongError{Bytes: bytes, Tokens: len(out), Limit: opt.MaxTokens}
		}
	}
	return out, nil
}

// withoutEOS drops an EOS that AddSpecial has put behind the tokens of s.
func withoutEOS(v *Vocab, s Segment, tokens []Token) []Token {
	n := len(tokens)
	eos := v.EOS()
	if n == 0 || tokens[n-1] != eos || n == 1 && eos == v.BOS() {
		return tokens
	}
	if p := v.Piece(eos); s.Special && p != "" && strings.HasSuffix(s.Text, p) {
		return tokens // the template wrote it
	}
	return tokens[:n-1]
}
