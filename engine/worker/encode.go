package worker

import "llamero/tokenizer"

// Flags of a text to tokenise.
const (
	encodeAddSpecial = 1 << iota
	encodeParseSpecial
)

// request is a text to tokenise; answers come in any order.
type request struct {
	id    uint64
	opt   tokenizer.EncodeOptions
	text  string
	reply chan answer // of the gateway's side: capacity 1
}

// answer is what became of it.
type answer struct {
	tokens []tokenizer.Token
	err    error
}

func appendRequest(b []byte, r *request) []byte {
	flags := byte(0)
	if r.opt.AddSpecial {
		flags |= encodeAddSpecial
	}
	if r.opt.ParseSpecial {
		flags |= encodeParseSpecial
	}
	return append(append(appendUvarint(b, r.id), flags), r.text...)
}

func decodeRequest(b []byte) (request, error) {
	d := decoder{b: b}
	r := request{id: d.uvarint()}
	flags := d.byte()
	if d.bad {
		return r, errMalformed
	}
	r.opt = tokenizer.EncodeOptions{AddSpecial: flags&encodeAddSpecial != 0, ParseSpecial: flags&encodeParseSpecial != 0}
	r.text = string(d.b)
	return r, nil
}

func appendAnswer(b []byte, id uint64, a answer) []byte {
	b = appendResult(appendUvarint(b, id), a.err)
	if a.err == nil {
		b = appendTokens(b, a.tokens)
	}
	return b
}

// decodeAnswer returns an answer with memory of its own.
func decodeAnswer(b []byte) (id uint64, a answer, err error) {
	d := decoder{b: b}
	id = d.uvarint()
	if d.bad || len(d.b) == 0 {
		return 0, a, errMalformed
	}
	if d.b[0] != 1 {
		a.err, err = decodeResult(d.b)
		return id, a, err
	}
	d.b = d.b[1:]
	a.tokens = d.tokens()
	return id, a, d.end()
}
