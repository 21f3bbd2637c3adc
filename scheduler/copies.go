package scheduler

// slotTokens is what reading a slot's state takes, or writing it, before the first
// token: as long as so many tokens. Measured on two cores: 100 µs for 32 tokens of 23 KB,
// 820 µs for 848.
const slotTokens = 64

// copies are what a step's edits copy.
type copies struct {
	moved int // tokens: from slot to slot, into pages, out of pages
	slots int // of them, those read from slots or written there; a slot is read whole
	pages int // those written to pages or read from there
}

func (c *copies) add(x copies) {
	c.moved += x.moved
	c.slots += x.slots
	c.pages += x.pages
}

// moving copies a slot of so many tokens to another.
func moving(tokens int) copies { return copies{moved: tokens, slots: 2 * (tokens + slotTokens)} }

// restoring fills a slot from pages of so many tokens.
func restoring(tokens int) copies {
	return copies{moved: tokens, slots: tokens + slotTokens, pages: tokens}
}

// saving writes some of a slot's tokens to pages.
func saving(slot, tokens int) copies {
	return copies{moved: tokens, slots: slot + slotTokens, pages: tokens}
}

// copy predicts what copies take.
func (c *Costs) copy(x copies) float64 {
	return c.slotToken*float64(x.slots) + c.pageToken*float64(x.pages)
}

// observeCopies learns from edits that have been done, as observe does from passes.
func (c *Costs) observeCopies(x copies, nanos int64) {
	p := c.copy(x)
	if nanos <= 0 || p <= 0 {
		return
	}
	err := misjudged(nanos, p)
	slots := c.slotToken * float64(x.slots) / p
	c.slotToken *= 1 + learnScale*err*slots
	c.pageToken *= 1 + learnScale*err*(1-slots)
}
