package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"llamero/cache"
)

const (
	// maxRound bounds what one pipeline asks for: Redis makes all of a pipeline's replies
	// before it sends the first, and when the deadline cuts one off, only that much was
	// asked for in vain.
	maxRound = 2 << 20
	maxGet   = 2 * time.Second // where the caller sets no deadline, or a late one
	// The last round ends a tenth of the time before the caller's deadline, at most
	// this much: what has come by then can still be verified.
	maxVerify = 10 * time.Millisecond
)

// round is what one pipeline brought.
type round struct {
	values   [][]byte // of the first pages asked for, up to one that is not there; lent by buffers
	complete bool     // all are
	flaw     flaw     // what is wrong with the key behind them
	answered bool     // Redis said something
	err      error
}

// Get implements cache.Remote. A page that is not there, or not as it should be, is
// no error.
func (r *Redis) Get(ctx context.Context, want []cache.Wanted) ([][]byte, func(), error) {
	if len(want) == 0 {
		return nil, nothing, nil
	}
	for i := range want {
		if n := len(want[i].Tokens); n != r.opt.PageTokens {
			return nil, nothing, fmt.Errorf("redis: a page of %d tokens is asked for, where pages have %d", n, r.opt.PageTokens)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, nothing, err
	}
	r.counts.gets.Add(1)
	era, ok := r.breaker.enter()
	if r.ctx.Err() != nil {
		return nil, nothing, ErrClosed
	}
	if !ok {
		r.counts.unavailable.Add(1)
		return nil, nothing, ErrUnavailable
	}
	start := time.Now()
	pages, values, verdict, err := r.get(ctx, want)
	r.settle(era, verdict, err)
	if observe := r.opt.Observer.Get; observe != nil {
		observe(time.Since(start), len(pages), err)
	}
	return pages, sync.OnceFunc(func() { r.buffers.give(values) }), err
}

// verdict is what a call says of Redis's health.
type verdict int

const (
	neutral verdict = iota // nothing
	healthy
	ailing
)

// get waits for its turn, has the rounds fetched by a goroutine, which may hang as
// long as the client lets it, and verifies one round while the next is on its way.
// The pages are in values.
func (r *Redis) get(ctx context.Context, want []cache.Wanted) (pages, values [][]byte, v verdict, err error) {
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, maxGet)
	defer cancel()
	start := time.Now()
	select {
	case r.readers <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, neutral, fmt.Errorf("redis: waiting for others that read: %w", ctx.Err())
	case <-r.ctx.Done():
		return nil, nil, neutral, ErrClosed
	}
	end, _ := ctx.Deadline()
	waited, left := time.Since(start), time.Until(end)
	wire, stop := context.WithDeadline(ctx, end.Add(-min(left/10, maxVerify)))
	rounds := make(chan round, 1)
	if !r.spawn(func() {
		defer func() { stop(); <-r.readers }()
		r.fetch(ctx, wire, want, rounds)
	}) {
		stop()
		<-r.readers
		return nil, nil, neutral, ErrClosed
	}

	v = ailing
	for err == nil && len(pages) < len(want) {
		var got round
		select {
		case got = <-rounds:
		case <-ctx.Done():
			got.err = ctx.Err()
		}
		if got.answered {
			v = healthy
		}
		values = append(values, got.values...)
		var wrong flaw
		pages, wrong = r.verify(ctx, pages, want, got.values)
		if wrong == sound && ctx.Err() == nil { // else not all were looked at
			wrong = got.flaw
		}
		if wrong != sound {
			r.bad(want[len(pages)].Address, wrong)
			return pages, values, v, nil
		}
		if err = got.err; err == nil && !got.complete {
			if err = ctx.Err(); err == nil {
				r.recent.Remove(want[len(pages)].Address) // it may have expired: to be written again
				r.counts.misses.Add(1)
			}
			break
		}
	}
	switch {
	case v == healthy:
	case r.ctx.Err() != nil:
		v, err = neutral, ErrClosed
	case errors.Is(caller.Err(), context.Canceled):
		v = neutral // the caller has gone
	case waited > left:
		v = neutral // Redis had less than half of the time
	}
	return pages, values, v, err
}

// verify appends the pages in values, up to one that is not good or the end of ctx.
func (r *Redis) verify(ctx context.Context, pages [][]byte, want []cache.Wanted, values [][]byte) ([][]byte, flaw) {
	for _, value := range values {
		if ctx.Err() != nil {
			break
		}
		w := want[len(pages)]
		kv, wrong := r.codec.open(value, w.Address, w.Tokens)
		if wrong != sound {
			return pages, wrong
		}
		r.remember(w.Address)
		r.counts.hits.Add(1)
		pages = append(pages, kv)
	}
	return pages, sound
}

// bad notes that a key holds what it should not. It is not trusted to be there, so
// the next Put writes it anew.
func (r *Redis) bad(a cache.Address, f flaw) {
	r.recent.Remove(a)
	r.counts.bad[f].Add(1)
	r.warn(warnBad, "redis holds a page that is not to be trusted; it is computed instead", "why", f.String(), "address", a.String())
}

// fetch asks for pages round by round until one is not there, an error, the end of
// wire for the network, or of ctx for whoever takes the rounds. The first round is
// one page, since most often there is none or there are many; each next one is twice
// as large.
func (r *Redis) fetch(ctx, wire context.Context, want []cache.Wanted, rounds chan<- round) {
	most := max(1, maxRound/r.codec.size())
	for n := 1; len(want) > 0; n = min(2*n, most) {
		n = min(n, len(want))
		got := r.round(wire, want[:n])
		select {
		case rounds <- got:
		case <-ctx.Done():
			r.buffers.give(got.values)
			return
		}
		if !got.complete {
			return
		}
		want = want[n:]
	}
}

// round runs one pipeline. GETRANGE is GET with a bound: one byte more than a value
// has shows that it is too long, and no more of it is sent.
func (r *Redis) round(ctx context.Context, want []cache.Wanted) round {
	pipe := r.client.Pipeline()
	replies := make([]*redis.ZeroCopyStringCmd, len(want))
	buffers := r.buffers.take(len(want))
	for i, w := range want {
		replies[i] = redis.NewZeroCopyStringCmd(ctx, buffers[i], "getrange", r.key(w.Address), 0, r.codec.size())
		_ = pipe.Process(ctx, replies[i])
	}
	_, _ = pipe.Exec(ctx) // each reply has its own error
	var got round
	defer func() { r.buffers.give(buffers[len(got.values):]) }()
	for _, reply := range replies {
		n, err := reply.Result()
		switch {
		case err == nil && n == 0: // not there
			got.answered = true
			return got
		case n > 0: // with the error of those behind it, where they did not come
			got.answered = true
			got.values = append(got.values, reply.Bytes())
			r.counts.bytesRead.Add(uint64(n))
		case redis.HasErrorPrefix(err, "WRONGTYPE"):
			got.answered, got.flaw = true, badType
			return got
		default:
			got.err = err
			return got
		}
	}
	got.complete = true
	return got
}

// settle counts how a call ended, and tells the breaker.
func (r *Redis) settle(era uint64, v verdict, err error) {
	switch {
	case err == nil, errors.Is(err, ErrClosed), errors.Is(err, context.Canceled):
	case timedOut(err):
		r.counts.timeouts.Add(1)
	default:
		r.counts.errors.Add(1)
	}
	switch v {
	case healthy:
		r.breaker.succeed(era)
	case ailing:
		switch wait, tripped, first := r.breaker.fail(era, time.Now()); {
		case tripped:
			r.unavailable(wait, err)
		case first:
			r.spawn(func() { r.confirm(era) })
		}
	}
}

func timedOut(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, redis.ErrPoolTimeout) || errors.As(err, &n) && n.Timeout()
}
