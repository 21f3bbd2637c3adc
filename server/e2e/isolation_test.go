package e2e

import (
	"path/filepath"
	"slices"
	"testing"

	"llamero/bench"
)

// asking is one request after another, and what must have been cached of it.
type asking struct {
	g    *gateway
	key  string
	hits bool
	who  string
}

func checkHits(t *testing.T, r bench.Request, all []asking) {
	t.Helper()
	var text string
	for i, a := range all {
		got := ask(t, a.g, a.key, r)
		want := 0
		if a.hits {
			want = useful(got)
		}
		if got.Cached != want {
			t.Errorf("%s: %d of %d tokens cached, want %d", a.who, got.Cached, got.Prompt, want)
		}
		if i == 0 {
			text = got.Text
		}
		if got.Text != text {
			t.Logf("%s is told %q, the first one %q", a.who, got.Text, text)
		}
	}
}

// What one API key has asked speeds up nobody else's prompts, unless keys share.
func TestTenantsAreKeptApart(t *testing.T) {
	env := []string{twoKeys}
	apart, together := own(t, env, smallCache...), own(t, env, append(smallCache, "--share-tenants")...)
	checkHits(t, disjoint(t, 1, 200, 8)[0], []asking{
		{apart, "sesame", false, "alice, who is first"},
		{apart, "sesame", true, "alice again"},
		{apart, "barley", false, "bob, behind alice"},
		{apart, "barley", true, "bob again"},
		{apart, "sesame", true, "alice, behind bob"},
	})
	checkHits(t, disjoint(t, 1, 200, 8)[0], []asking{
		{together, "sesame", false, "alice, who is first"},
		{together, "barley", true, "bob, who shares with alice"},
	})
}

// The same through Redis: a tenant finds on one gateway what it has asked on another,
// others do not, nor do gateways with another secret.
func TestTenantsAreKeptApartInRedis(t *testing.T) {
	redis := startRedis(t)
	start := func(secret string) *gateway {
		return own(t, []string{twoKeys}, append(smallCache, "--redis", redis.url, "--redis-wait", "2s",
			"--cache-key-file", keyFile(t, secret))...)
	}
	one, two, stranger := start(sharedSecret), start(sharedSecret), start(strangerSecret)
	r := disjoint(t, 1, 200, 8)[0]
	a := ask(t, one, "sesame", r)
	until(t, "alice's pages are in Redis", func() bool { return redis.keys(t) >= pages(a) })
	checkHits(t, r, []asking{
		{two, "barley", false, "bob, elsewhere"},
		{stranger, "sesame", false, "alice, where another secret is"},
	})
	until(t, "alice finds elsewhere what she has asked here", func() bool { // on a slow machine it may come too late
		r := disjoint(t, 1, 200, 8)[0]
		before := redis.keys(t)
		a := ask(t, one, "sesame", r)
		until(t, "alice's pages are in Redis", func() bool { return redis.keys(t) >= before+pages(a) })
		got := ask(t, two, "sesame", r)
		return got.Cached == useful(got)
	})
}

// The memory that a gateway leaves in a folder is of no use to one whose KV is of
// another type, though it is of the same size.
func TestFolderOfAnotherModel(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pages")
	args := append(smallCache, "--cache-dir", dir)
	r := disjoint(t, 1, 200, 8)[0]
	for _, at := range []struct {
		who, kv string
		hits    bool
	}{{"the first", "f16", false}, {"one of another type", "bf16", false}, {"another of that type", "bf16", true}} {
		g := own(t, nil, append(slices.Clone(args), "--type-k", at.kv, "--type-v", at.kv)...)
		checkHits(t, r, []asking{{g, "", at.hits, at.who}, {g, "", true, at.who + ", again"}})
		g.terminate(t)
	}
}
