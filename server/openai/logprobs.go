package openai

import (
	"unicode/utf8"

	"llamero/engine"
	"llamero/tokenizer"
)

// appendChatLogProbs appends {"content":[…]}. top is how many
// alternatives a token gets.
func appendChatLogProbs(dst []byte, v *tokenizer.Vocab, toks []Scored, top int) []byte {
	dst = append(dst, `{"content":[`...)
	for i, t := range toks {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendTokenLogProb(dst, v.Piece(t.Token), t.LogProb)
		dst = append(dst, `,"top_logprobs":[`...)
		for j, alt := range t.Top[:min(top, len(t.Top))] {
			if j > 0 {
				dst = append(dst, ',')
			}
			dst = appendTokenLogProb(dst, v.Piece(alt.Token), alt.LogProb)
			dst = append(dst, '}')
		}
		dst = append(dst, `]}`...)
	}
	return append(dst, `],"refusal":null}`...)
}

// appendTokenLogProb leaves its object open.
func appendTokenLogProb(dst []byte, piece string, lp float32) []byte {
	dst = append(dst, `{"token":`...)
	dst = appendString(dst, piece)
	dst = append(dst, `,"logprob":`...)
	dst = appendLogProb(dst, lp)
	dst = append(dst, `,"bytes":`...)
	return appendBytes(dst, piece)
}

// Scored is a token with its log-probability.
type Scored struct {
	engine.Sampled
	NoScore bool // the first token of an echoed prompt, which follows nothing
	Spelled bool // the answer shows the token's piece even if it is a control token
}

// appendTextLogProbs appends the older shape, of parallel arrays. offset is where
// the first token's text begins in the answer, in characters; the offset after the
// last is returned.
func appendTextLogProbs(dst []byte, v *tokenizer.Vocab, toks []Scored, top, offset int) ([]byte, int) {
	dst = append(dst, `{"tokens":[`...)
	for i, t := range toks {
		dst = comma(dst, i)
		dst = appendString(dst, v.Piece(t.Token))
	}
	dst = append(dst, `],"token_logprobs":[`...)
	for i, t := range toks {
		dst = comma(dst, i)
		if t.NoScore {
			dst = append(dst, "null"...)
		} else {
			dst = appendLogProb(dst, t.LogProb)
		}
	}
	dst = append(dst, `],"top_logprobs":`...)
	if top == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = append(dst, '[')
		for i, t := range toks {
			dst = comma(dst, i)
			if t.NoScore {
				dst = append(dst, "null"...)
				continue
			}
			dst = appendTopMap(dst, v, t.Top[:min(top, len(t.Top))])
		}
		dst = append(dst, ']')
	}
	dst = append(dst, `,"text_offset":[`...)
	for i, t := range toks {
		dst = comma(dst, i)
		dst = appendInt(dst, offset)
		if t.Spelled {
			offset += starts(v.Piece(t.Token))
		} else {
			offset += starts(v.Text(t.Token))
		}
	}
	return append(dst, `]}`...), offset
}

// appendTopMap appends {"piece": logprob}; of two tokens with the same piece the
// more probable one counts.
func appendTopMap(dst []byte, v *tokenizer.Vocab, top []engine.TopProb) []byte {
	dst = append(dst, '{')
	wrote := 0
next:
	for i, alt := range top {
		p := v.Piece(alt.Token)
		for _, earlier := range top[:i] {
			if v.Piece(earlier.Token) == p {
				continue next
			}
		}
		dst = comma(dst, wrote)
		wrote++
		dst = appendString(dst, p)
		dst = append(dst, ':')
		dst = appendLogProb(dst, alt.LogProb)
	}
	return append(dst, '}')
}

// starts counts the characters that begin in s, so that a character whose bytes are
// spread over tokens is counted once.
func starts(s string) int {
	n := 0
	for i := 0; i < len(s); i++ {
		if utf8.RuneStart(s[i]) {
			n++
		}
	}
	return n
}

func comma(dst []byte, i int) []byte {
	if i > 0 {
		dst = append(dst, ',')
	}
	return dst
}
