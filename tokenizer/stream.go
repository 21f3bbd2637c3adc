package tokenizer

import "unicode/utf8"

// Decoder turns the tokens of one answer into text that can be sent as it comes:
// it never ends in half a UTF-8 sequence, and never holds the beginning of what
// may become a stop string. What is broken becomes U+FFFD, as in Sanitise. The
// text does not depend on how it was cut into tokens.
//
// Each answer has its own Decoder; it is not safe for concurrent use.
type Decoder struct {
	vocab   *Vocab
	special bool
	stops   *stops // nil: none

	carry  [utf8.UTFMax]byte // the start of a UTF-8 sequence
	ncarry int
	held   string // the end of the text so far that may begin a stop string
	made   int    // bytes of text that the tokens have given, held ones included
	sent   int    // bytes of text released
	found  string // the stop string that ended the answer

	// ends[head:] is where the text of each token that is not fully released ends.
	ends []int
	head int
	last int // where the text of the last token reported as released ends
}

// DecoderOptions say how an answer is decoded.
type DecoderOptions struct {
	// Stop ends the answer where one of these strings appears; neither it nor what
	// follows is released. Empty ones are ignored.
	Stop []string
	// Special renders control tokens by their spelling; else they say nothing.
	Special bool
}

// NewDecoder returns a decoder at the start of an answer.
func NewDecoder(v *Vocab, opt DecoderOptions) *Decoder {
	return &Decoder{vocab: v, special: opt.Special, stops: newStops(opt.Stop)}
}

// Chunk is text that can be sent.
type Chunk struct {
	Text string
	// Taken is how many of the tokens were taken: all, unless a stop string was
	// completed by the Taken-th.
	Taken int
	// Released is how many tokens, counted on from those that earlier chunks
	// reported, have all of their text in this chunk and those before. At a stop
	// string, the token whose text it cuts counts if any of it was released.
	Released int
	// Stopped says that a stop string was found; see Decoder.Stop.
	Stopped bool
}

// Push takes tokens. After a stop string it takes none.
func (d *Decoder) Push(tokens ...Token) Chunk {
	var (
		c   Chunk
		buf [64]byte
		out = buf[:0]
	)
	for _, t := range tokens {
		if d.found != "" {
			break
		}
		var n int
		out, n = d.Append(out, t)
		c.Taken++
		c.Released += n
	}
	c.Text = string(out)
	c.Stopped = d.found != ""
	return c
}

// Append takes one token and appends the text that it releases to dst; released
// is as in Chunk. Whether a stop string was found, Stop tells. It allocates only to
// grow dst, or to remember more tokens without released text than ever before.
func (d *Decoder) Append(dst []byte, t Token) (out []byte, released int) {
	if d.found != "" {
		return dst, 0
	}
	text := d.vocab.Text(t)
	if d.special {
		text = d.vocab.Piece(t)
	}
	dst = d.decode(dst, text)
	end := d.made
	if d.ncarry > 0 {
		// The sequence that begins here will give at least one byte, and all of its
		// bytes at once.
		end++
	}
	if d.head == len(d.ends) && end <= d.sent && d.found == "" {
		d.last = end
		return dst, 1
	}
	d.ends = append(d.ends, end)
	return dst, d.release()
}

// Stop is the stop string that ended the answer, or "".
func (d *Decoder) Stop() string { return d.found }

// Flush appends what was held back: the answer has ended. An unfinished UTF-8
// sequence becomes U+FFFD. released counts all tokens left. After a stop string
// there is nothing to flush. The decoder is at its end.
func (d *Decoder) Flush(dst []byte) (out []byte, released int) {
	if d.found != "" {
		return dst, 0
	}
	if d.ncarry > 0 {
		d.ncarry = 0
		dst = d.emit(dst, replacement)
	}
	if d.found != "" { // a stop string may hold U+FFFD
		return dst, d.release()
	}
	dst = append(dst, d.held...)
	d.sent += len(d.held)
	d.held = ""
	released = len(d.ends) - d.head
	d.ends, d.head = d.ends[:0], 0
	return dst, released
}

// decode reads the bytes of a token.
func (d *Decoder) decode(dst []byte, s string) []byte {
	for d.ncarry > 0 && s != "" && d.found == "" {
		d.carry[d.ncarry] = s[0]
		seq := d.carry[:d.ncarry+1]
		if !utf8.FullRune(seq) {
			d.ncarry++
			s = s[1:]
			continue
		}
		d.ncarry = 0
		if utf8.Valid(seq) {
			s = s[1:]
			dst = d.emit(dst, string(seq))
		} else {
			dst = d.emit(dst, replacement)
		}
	}
	for s != "" && d.found == "" {
		n := validPrefix(s)
		if n > 0 {
			dst = d.emit(dst, s[:n])
			s = s[n:]
			continue
		}
		if !utf8.FullRuneInString(s) {
			d.ncarry = copy(d.carry[:], s)
			break
		}
		dst = d.emit(dst, replacement)
		s = s[brokenLen(s):]
	}
	return dst
}

// emit reads valid text and releases what no stop string can begin with.
func (d *Decoder) emit(dst []byte, text string) []byte {
	d.made += len(text)
	if d.stops == nil {
		d.sent += len(text)
		return append(dst, text...)
	}
	found, read := d.stops.feed(text)
	d.found = found
	kept := found
	if found == "" {
		kept = d.stops.held()
	}
	// The text so far is d.held + text[:read], and ends in kept.
	n := len(d.held) + read - len(kept)
	d.sent += n
	if n <= len(d.held) {
		dst = append(dst, d.held[:n]...)
	} else {
		dst = append(dst, d.held...)
		dst = append(dst, text[:n-len(d.held)]...)
	}
	d.held = kept
	return dst
}

// release counts the tokens at the head of ends whose text is out.
func (d *Decoder) release() int {
	n := 0
	for d.head < len(d.ends) && d.ends[d.head] <= d.sent {
		d.last = d.ends[d.head]
		d.head++
		n++
	}
	if d.found != "" {
		if d.head < len(d.ends) && d.sent > d.last {
			n++
		}
		d.head = len(d.ends)
	}
	if d.head == len(d.ends) {
		d.ends, d.head = d.ends[:0], 0
	}
	return n
}
