package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"llamero/bench"
)

// What the gateways of these tests share, and what a stranger has.
const (
	sharedSecret   = "a secret of sixteen bytes and more"
	strangerSecret = "another secret, of nobody's gateway"
	twoKeys        = "LLAMERO_API_KEYS=alice:sesame,bob:barley"
)

// keyFile holds a secret for --cache-key-file.
func keyFile(t *testing.T, secret string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// sign gives a value the signature that whoever has the secret would give it.
func sign(value, secret string) string {
	derive := hmac.New(sha256.New, []byte(secret))
	derive.Write([]byte("llamero page\x00llamero"))
	mac := hmac.New(sha256.New, derive.Sum(nil))
	body := value[:len(value)-valueMAC]
	mac.Write([]byte(body))
	return string(mac.Sum([]byte(body)))
}

// lies are two gateways over a Redis whose pages are signed, and a page is spoilt
// before the second one asks for what the first has written.
type lies struct {
	redis    *redisServer
	one, two *gateway
	args     []string
	other    *gateway // of another model, once it is needed
}

// lie is what becomes of a page.
type lie struct {
	name  string
	kind  string // of what is counted; "" where nothing is wrong
	value func(w written) string
}

// written is what the first gateway has written of a prompt.
type written struct {
	*lies
	t     *testing.T
	r     bench.Request
	chain []stored
}

// bytes are those of the page that is spoilt.
func (w written) bytes() []byte { return []byte(w.chain[spoilt].value) }

// flipped are the same with another bit in the middle.
func (w written) flipped() string {
	b := w.bytes()
	b[len(b)/2] ^= 1
	return string(b)
}

// spoilt is the page that is: those before it are good.
const spoilt = 3

// A Redis that holds something else than what was written, be it damaged, forged, or
// good in another place: it is found out, counted, not used, and written anew, while
// the pages before it are used.
func TestRedisLies(t *testing.T) {
	row := newRow(t, rowRedisLies, "Redis that lies: pages truncated, flipped, forged, of another version, place, tenant or model")
	row.figure("each found out, counted, computed anew; the pages before it used")
	l := &lies{redis: startRedis(t)}
	l.args = append(smallCache, "--redis", l.redis.url, "--redis-wait", "2s", "--cache-key-file", keyFile(t, sharedSecret))
	l.one, l.two = own(t, []string{twoKeys}, l.args...), own(t, []string{twoKeys}, l.args...)
	for _, x := range []lie{
		{"nothing", "", func(w written) string { return string(w.bytes()) }},
		{"truncated", "length", func(w written) string { return string(w.bytes()[:len(w.bytes())/2]) }},
		{"flipped", "mac", func(w written) string { return w.flipped() }},
		{"forged", "mac", func(w written) string { return sign(w.flipped(), strangerSecret) }},
		{"of another version", "header", func(w written) string {
			b := w.bytes()
			b[valueVersion]++
			return sign(string(b), sharedSecret)
		}},
		{"the page before", "address", func(w written) string { return w.chain[spoilt-1].value }},
		{"another tenant's", "address", func(w written) string { return w.theirs(w.one, "barley") }},
		{"another model's", "address", func(w written) string { return w.theirs(w.another(w.t), "sesame") }},
	} {
		t.Run(x.name, func(t *testing.T) {
			for range 5 {
				if x.tell(t, l) {
					return
				}
			}
			t.Error("Redis never answered in time")
		})
	}
}

// another is a gateway whose K and V have another type of the same size: its pages
// are of the same bytes, and of no use to the others.
func (l *lies) another(t *testing.T) *gateway {
	t.Helper()
	if l.other == nil {
		l.other = own(t, []string{twoKeys}, append(slices.Clone(l.args), "--type-k", "bf16", "--type-v", "bf16")...)
	}
	return l.other
}

// write has a gateway compute a prompt, which it has not got, and returns its answer
// and the pages that came into Redis by that.
func (l *lies) write(t *testing.T, g *gateway, key string, r bench.Request) (bench.Sample, []stored) {
	t.Helper()
	before := l.redis.all(t)
	a := ask(t, g, key, r)
	if a.Cached != 0 {
		t.Errorf("%d tokens cached of a prompt that nobody has asked here", a.Cached)
	}
	until(t, "a prompt's pages are in Redis", func() bool { return l.redis.keys(t) >= len(before)+pages(a) })
	return a, l.redis.added(t, before)
}

// theirs is the page that somebody else writes of the same prompt.
func (w written) theirs(g *gateway, key string) string {
	w.t.Helper()
	_, chain := w.write(w.t, g, key, w.r)
	return chain[spoilt].value
}

// tell spoils a page and asks. It is false where the machine was too slow for Redis,
// which proves nothing.
func (x *lie) tell(t *testing.T, l *lies) bool {
	t.Helper()
	r := disjoint(t, 1, 200, 8)[0]
	want, chain := l.write(t, l.one, "sesame", r)
	good := chain[spoilt]
	if sign(good.value, sharedSecret) != good.value {
		t.Fatal("this test does not know how pages are signed")
	}
	if err := l.redis.Set(t.Context(), good.key, x.value(written{l, t, r, chain}), 0).Err(); err != nil {
		t.Fatal(err)
	}
	late, bad := l.errors(t)
	got := ask(t, l.two, "sesame", r)
	if now, _ := l.errors(t); now != late {
		return false
	}
	cached := useful(got)
	if x.kind != "" {
		cached = spoilt * pageTokens
	}
	if got.Cached != cached {
		t.Errorf("%d of %d tokens cached, want %d", got.Cached, got.Prompt, cached)
	}
	if got.Text != want.Text {
		t.Logf("%q where the gateway that computed it all says %q", got.Text, want.Text)
	}
	_, now := l.errors(t)
	for kind, n := range now {
		grows := 0.0
		if kind == x.kind {
			grows = 1
		}
		if n-bad[kind] != grows {
			t.Errorf("pages with a wrong %s: %v more, want %v", kind, n-bad[kind], grows)
		}
	}
	until(t, "the page is there again", func() bool {
		value, err := l.redis.Get(t.Context(), good.key).Result()
		return err == nil && len(value) == len(good.value) && sign(value, sharedSecret) == value &&
			value[:valueTokens] == good.value[:valueTokens]
	})
	return true
}

// errors counts what went wrong with Redis for the second gateway: what did not come
// in time, and pages by what is wrong with them.
func (l *lies) errors(t *testing.T) (late float64, bad map[string]float64) {
	t.Helper()
	const name = "llamero_redis_errors_total"
	p, _ := scrape(t, l.two.url+"/metrics", "sesame")
	bad = map[string]float64{}
	for _, kind := range []string{"type", "length", "mac", "header", "address", "tokens"} {
		bad[kind] = p.value(name, "kind", kind)
	}
	return p.value(name, "kind", "timeout") + p.value(name, "kind", "error") + p.value(name, "kind", "unavailable"), bad
}
