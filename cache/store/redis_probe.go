package store

import (
	"context"
	"time"
)

const probeTimeout = dialTimeout + ioTimeout

// probe asks Redis for a key that nobody writes, with the command and the rights
// that Get needs.
func (r *Redis) probe() error {
	ctx, cancel := context.WithTimeout(r.ctx, probeTimeout)
	defer cancel()
	return r.client.GetRange(ctx, r.prefix+"probe", 0, 0).Err()
}

// greet connects, so that the first request need not, and says how that went.
func (r *Redis) greet() {
	era, _ := r.breaker.enter()
	if r.confirm(era) {
		r.log.Info("pages are shared through redis", "redis", r.where)
	}
}

// confirm opens the breaker if Redis does not answer a probe either, and reports
// whether it did answer.
func (r *Redis) confirm(era uint64) bool {
	err := r.probe()
	if err == nil || r.ctx.Err() != nil {
		return err == nil
	}
	if wait, tripped := r.breaker.confirm(era, time.Now()); tripped {
		r.unavailable(wait, err)
	}
	return false
}

// unavailable is called when the breaker has opened.
func (r *Redis) unavailable(wait time.Duration, err error) {
	r.log.Warn("redis is not available; pages are computed until it is", "err", err, "redis", r.where)
	r.spawn(func() { r.recover(wait) })
}

// recover probes until Redis is back, then closes the breaker.
func (r *Redis) recover(wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-r.ctx.Done():
			return
		}
		if r.probe() == nil {
			break
		}
		timer.Reset(probeEvery)
	}
	r.recent.Purge() // it may have come back empty
	r.breaker.close(time.Now())
	r.log.Info("redis is available again", "redis", r.where)
}
