package worker

import "llamero/tokenizer"

const (
	leastPiece = 2       // the fewest bytes of a piece: its length and its attributes
	maxVocab   = 4 << 20 // tokens of a vocabulary that is believed
)

// appendVocab encodes a piece table.
func appendVocab(b []byte, v *tokenizer.Vocab) []byte {
	b = appendInt(b, int64(v.BOS()))
	b = appendInt(b, int64(v.EOS()))
	b = appendUvarint(b, uint64(v.Len()))
	for i := range v.Len() {
		t := tokenizer.Token(i)
		b = appendUvarint(b, uint64(len(v.Piece(t))))
		b = append(b, byte(v.Attr(t)))
	}
	for i := range v.Len() {
		b = append(b, v.Piece(tokenizer.Token(i))...)
	}
	return b
}

// decodeVocab returns a piece table whose pieces share memory.
func decodeVocab(b []byte) (*tokenizer.Vocab, error) {
	d := decoder{b: b}
	bos, eos := tokenizer.Token(d.int32()), tokenizer.Token(d.int32())
	n := d.count(leastPiece)
	if n > maxVocab {
		return nil, errMalformed
	}
	lengths, attrs := make([]uint64, n), make([]tokenizer.Attr, n)
	for i := range n {
		lengths[i], attrs[i] = d.uvarint(), tokenizer.Attr(d.byte())
	}
	if d.bad || bos < tokenizer.None || eos < tokenizer.None || int(bos) >= n || int(eos) >= n {
		return nil, errMalformed
	}
	all := string(d.b)
	pieces := make([]string, n)
	for i, size := range lengths {
		if size > uint64(len(all)) {
			return nil, errMalformed
		}
		pieces[i], all = all[:size], all[size:]
	}
	if all != "" {
		return nil, errMalformed
	}
	return tokenizer.NewVocab(pieces, attrs, bos, eos), nil
}
