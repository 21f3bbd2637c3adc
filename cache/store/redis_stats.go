package store

import "sync/atomic"

// dropReason says why a page was not written.
type dropReason int

const (
	dropQueue       dropReason = iota // no room
	dropUnavailable                   // the breaker was open
	dropRefused                       // Redis answered with an error, such as being out of memory
	dropFailed                        // the network
	dropClosed
	dropSize // tokens or KV of another size than pages have
	numberReasons
)

var dropNames = [numberReasons]string{"queue", "unavailable", "refused", "failed", "closed", "size"}

// RedisStats are counts since the start, and the state of now.
type RedisStats struct {
	Gets        uint64 // calls of Get
	Unavailable uint64 // of them, those answered at once since the breaker was open
	Hits        uint64 // pages that were there
	Misses      uint64 // calls that ended at a page that was not
	BytesRead   uint64 // of values

	// Bad counts values that were there and not to be trusted, by what was wrong: type,
	// length, mac, header, address, tokens.
	Bad map[string]uint64

	Puts         uint64 // pages written
	BytesWritten uint64 // of their values
	Skipped      uint64 // pages handed over that this process had written or read lately

	// Dropped counts pages that were not written, by reason: queue, unavailable,
	// refused, failed, closed, size.
	Dropped map[string]uint64

	Errors   uint64 // calls and writes that failed, timeouts apart
	Timeouts uint64

	Queued int    // pages that wait to be written
	Open   bool   // the breaker
	Opened uint64 // how often it has opened
}

type counts struct {
	gets, unavailable, hits, misses, bytesRead atomic.Uint64
	puts, bytesWritten, skipped                atomic.Uint64
	errors, timeouts                           atomic.Uint64
	bad                                        [numberFlaws]atomic.Uint64
	dropped                                    [numberReasons]atomic.Uint64
}

// Stats counts.
func (r *Redis) Stats() RedisStats {
	c := &r.counts
	s := RedisStats{
		Gets: c.gets.Load(), Unavailable: c.unavailable.Load(), Hits: c.hits.Load(), Misses: c.misses.Load(), BytesRead: c.bytesRead.Load(),
		Puts: c.puts.Load(), BytesWritten: c.bytesWritten.Load(), Skipped: c.skipped.Load(),
		Errors: c.errors.Load(), Timeouts: c.timeouts.Load(),
		Queued:  len(r.queue),
		Bad:     make(map[string]uint64, numberFlaws),
		Dropped: make(map[string]uint64, numberReasons),
	}
	s.Open, s.Opened = r.breaker.state()
	for f := sound + 1; f < numberFlaws; f++ {
		s.Bad[f.String()] = c.bad[f].Load()
	}
	for d := range numberReasons {
		s.Dropped[dropNames[d]] = c.dropped[d].Load()
	}
	return s
}
