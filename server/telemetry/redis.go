package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"llamero/cache/store"
)

// Redis is where a Redis tier's counts come from; *store.Redis is one.
type Redis interface{ Stats() store.RedisStats }

// redisBuckets end above the longest that a request is let wait.
var redisBuckets = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// Redis follows the Redis tier of a served model. The tier is made with the observer:
// call watch when it is there.
func (t *Telemetry) Redis(alias string) (observer store.RedisObserver, watch func(Redis)) {
	if t.registry == nil {
		return store.RedisObserver{}, func(Redis) {}
	}
	r := prometheus.WrapRegistererWith(prometheus.Labels{modelLabel: alias}, t.registry)
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: own + "redis_seconds",
		Help: "Time of what was asked of Redis: the pages of a prompt to be read, one page to be written.", Buckets: redisBuckets}, []string{"op"})
	r.MustRegister(took)
	get, put := took.WithLabelValues("get"), took.WithLabelValues("put")
	return store.RedisObserver{
		Get: func(took time.Duration, _ int, _ error) { get.Observe(took.Seconds()) },
		Put: func(took time.Duration, _ int, _ error) { put.Observe(took.Seconds()) },
	}, func(tier Redis) { r.MustRegister(newRedisGauges(tier)) }
}

// redisGauges reads a tier's counts when the page is asked for.
type redisGauges struct {
	tier                                           Redis
	pages, bytes, errors, dropped, queued, breaker *prometheus.Desc
}

func newRedisGauges(tier Redis) *redisGauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(own+"redis_"+name, help, labels, nil)
	}
	return &redisGauges{
		tier:    tier,
		pages:   desc("pages_total", "Pages read from Redis and written to it.", "op"),
		bytes:   desc("bytes_total", "Bytes of values read from Redis and written to it.", "op"),
		errors:  desc("errors_total", "What went wrong with Redis: its errors, timeouts, requests it was not asked for since it was not available, and values that were not to be trusted, by what was wrong with them.", "kind"),
		dropped: desc("dropped_pages_total", "Pages that were not written to Redis.", "reason"),
		queued:  desc("queued_pages", "Pages that wait to be written to Redis."),
		breaker: desc("up", "1 while Redis is asked, 0 while it is not since it did not answer."),
	}
}

func (g *redisGauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.pages, g.bytes, g.errors, g.dropped, g.queued, g.breaker} {
		ch <- d
	}
}

func (g *redisGauges) Collect(ch chan<- prometheus.Metric) {
	st := g.tier.Stats()
	counter := func(d *prometheus.Desc, v uint64, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), label)
	}
	gauge := func(d *prometheus.Desc, v int) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	counter(g.pages, st.Hits, "get")
	counter(g.pages, st.Puts, "put")
	counter(g.bytes, st.BytesRead, "get")
	counter(g.bytes, st.BytesWritten, "put")
	counter(g.errors, st.Errors, "error")
	counter(g.errors, st.Timeouts, "timeout")
	counter(g.errors, st.Unavailable, "unavailable")
	for flaw, n := range st.Bad {
		counter(g.errors, n, flaw)
	}
	for reason, n := range st.Dropped {
		counter(g.dropped, n, reason)
	}
	gauge(g.queued, st.Queued)
	up := 1
	if st.Open {
		up = 0
	}
	gauge(g.breaker, up)
}
