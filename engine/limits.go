package engine

// Layout is how slots share the KV cache.
type Layout uint8

const (
	// Split gives each slot a stream of its own: a row costs what the longest row
	// of its pass costs, and a pass wants consecutive slots.
	Split Layout = iota + 1
	// Unified keeps all slots in one pool of cells: no limit per slot, but every
	// row pays for every cell in use.
	Unified
)

func (l Layout) String() string {
	switch l {
	case Split:
		return "split"
	case Unified:
		return "unified"
	}
	return "unknown"
}

// Limits is what an engine can hold.
type Limits struct {
	Layout Layout
	// Slots is how many requests run at once; they are numbered from 0.
	Slots int
	// Scratch counts further slots, numbered behind the others, that only idle rows
	// may use: they round a pass up to a cheaper width.
	Scratch     int
	SlotTokens  int  // tokens a slot holds
	PoolTokens  int  // tokens that all slots hold together
	PassTokens  int  // tokens that one pass takes; at least Slots + Scratch
	PassOutputs int  // outputs of one pass: see Row.Outputs; at least Slots + Scratch
	Vocab       int  // tokens are 0 … Vocab-1
	TokenBytes  int  // KV bytes of one token
	PageTokens  int  // tokens of a host page
	PageBytes   int  // bytes of a host page
	Pages       int  // host pages, numbered from 0; 0: the model cannot be paged, or is not
	Trims       bool // whether a slot can be cut back (a recurrent model's cannot)
	Draft       int  // tokens that a row may have drafted; 0: there is no draft model
}

// Page is host page i in the memory that holds all of them, one after the other.
func (l *Limits) Page(memory []byte, i int32) []byte {
	return memory[int(i)*l.PageBytes:][:l.PageBytes:l.PageBytes]
}
