package cache

import "context"

// Remote is a tier of pages that other processes share: what one of them computed,
// the others need not. It holds pages by address, each with its tokens. Nothing
// depends on it: a page that it does not give is computed. It is safe for
// concurrent use.
type Remote interface {
	// Get asks for pages, which follow one another, and returns those from the first
	// one on that are there, whole, authentic, and of the tokens asked for. It returns
	// by the end of ctx, whatever the tier does. The error says why there may be fewer
	// than there could be; the pages are good all the same. release, which is never nil,
	// gives their memory back: call it once they are no longer looked at.
	Get(ctx context.Context, want []Wanted) (pages [][]byte, release func(), err error)
	// Put hands a page over and does not wait: one for which there is no room in the
	// queue is dropped. release is called once the memory of kv is no longer looked
	// at, perhaps before Put returns.
	Put(a Address, tokens []Token, kv []byte, release func())
	// Close ends the writing; what waits in the queue is dropped.
	Close() error
}

// Wanted is a page that is asked for.
type Wanted struct {
	Address Address
	Tokens  []Token
}
