package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"llamero/cache"
)

const (
	putTimeout   = dialTimeout + 2*ioTimeout
	refusedPause = time.Second // without writing, after Redis refused a page
)

// put is a page that waits to be written.
type put struct {
	address cache.Address
	tokens  []cache.Token
	kv      []byte
	release func()
}

// Put implements cache.Remote. What this process wrote or read lately is not written
// again.
func (r *Redis) Put(a cache.Address, tokens []cache.Token, kv []byte, release func()) {
	p := put{address: a, kv: kv, release: release}
	if len(tokens) != r.opt.PageTokens || len(kv) != r.opt.PageBytes {
		r.drop(p, dropSize)
		return
	}
	if r.remembers(a) {
		r.counts.skipped.Add(1)
		p.done()
		return
	}
	if reason, no := r.unwritable(); no {
		r.drop(p, reason)
		return
	}
	p.tokens = slices.Clone(tokens) // only kv is lent
	if reason, no := r.enqueue(p); no {
		r.drop(p, reason)
	}
}

// done says that kv is no longer needed, once.
func (p *put) done() {
	if p.release != nil {
		p.release()
		p.release = nil
	}
}

// unwritable says why Redis is not worth writing to just now.
func (r *Redis) unwritable() (dropReason, bool) {
	if _, ok := r.breaker.enter(); !ok {
		return dropUnavailable, true
	}
	return dropRefused, time.Now().UnixNano() < r.refused.Load()
}

func (r *Redis) enqueue(p put) (dropReason, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return dropClosed, true
	}
	r.remember(p.address) // so that it is queued once; a failure forgets it
	select {
	case r.queue <- p:
		return 0, false
	default:
		r.recent.Remove(p.address)
		return dropQueue, true
	}
}

// drop gives a page up.
func (r *Redis) drop(p put, why dropReason) {
	p.done()
	r.counts.dropped[why].Add(1)
}

// write is a writer's goroutine. It has a buffer of its own, in which values are
// made.
func (r *Redis) write() {
	buf := make([]byte, 0, r.codec.size())
	for p := range r.queue {
		why, no := r.unwritable()
		if r.ctx.Err() != nil {
			why, no = dropClosed, true
		}
		if no {
			r.recent.Remove(p.address)
			r.drop(p, why)
			continue
		}
		buf = r.codec.fill(buf, p.address, p.tokens, p.kv)
		p.done() // the copy will do
		r.set(p.address, r.codec.seal(buf))
	}
}

// set writes one value.
func (r *Redis) set(a cache.Address, value []byte) {
	era, _ := r.breaker.enter()
	ctx, cancel := context.WithTimeout(r.ctx, putTimeout)
	defer cancel()
	start := time.Now()
	err := r.client.Set(ctx, r.key(a), value, r.opt.TTL).Err()
	took := time.Since(start)
	v := healthy
	var reply redis.Error
	switch {
	case err == nil:
		r.remember(a)
		r.counts.puts.Add(1)
		r.counts.bytesWritten.Add(uint64(len(value)))
	case r.ctx.Err() != nil:
		v, err = neutral, ErrClosed
		r.counts.dropped[dropClosed].Add(1)
	case errors.As(err, &reply): // it answers, and may be read from all the same
		r.refused.Store(time.Now().Add(refusedPause).UnixNano())
		r.warn(warnRefused, "redis refuses pages", "err", err)
		r.counts.dropped[dropRefused].Add(1)
	default:
		v = ailing
		r.counts.dropped[dropFailed].Add(1)
	}
	if err != nil {
		r.recent.Remove(a)
	}
	r.settle(era, v, err)
	if observe := r.opt.Observer.Put; observe != nil {
		observe(took, len(value), err)
	}
}
