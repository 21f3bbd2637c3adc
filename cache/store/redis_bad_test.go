package store

import (
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"llamero/cache/store/storetest"
)

// What a key holds that it should not counts as not there, is counted by what is
// wrong, ends the prefix, leaves the breaker alone, and is written anew.
func TestBadValuesInRedis(t *testing.T) {
	pages, strangers := chain(1, 5), chain(2, 5)
	c := testCodec()
	for _, test := range []struct {
		name  string
		spoil func(m *miniredis.Miniredis, key, good string, page storetest.Page)
		want  flaw
	}{
		{"truncated", func(m *miniredis.Miniredis, key, good string, _ storetest.Page) {
			_ = m.Set(key, good[:len(good)-1])
		}, badLength},
		{"longer", func(m *miniredis.Miniredis, key, good string, _ storetest.Page) {
			_ = m.Set(key, good+strings.Repeat("x", 1<<20))
		}, badLength},
		{"flipped", func(m *miniredis.Miniredis, key, good string, _ storetest.Page) {
			b := []byte(good)
			b[len(b)/2] ^= 1
			_ = m.Set(key, string(b))
		}, badMAC},
		{"forged", func(m *miniredis.Miniredis, key, _ string, p storetest.Page) {
			_ = m.Set(key, string(newValueCodec([]byte("not the key of the gateways"), "llamero", testTokens, testBytes).value(p)))
		}, badMAC},
		{"of another namespace", func(m *miniredis.Miniredis, key, _ string, p storetest.Page) {
			_ = m.Set(key, string(newValueCodec(testKey, "other", testTokens, testBytes).value(p)))
		}, badMAC},
		{"of another version", func(m *miniredis.Miniredis, key, good string, _ storetest.Page) {
			_ = m.Set(key, string(c.forge([]byte(good), func(b []byte) { b[8] = 2 })))
		}, badHeader},
		{"of another page size", func(m *miniredis.Miniredis, key, _ string, _ storetest.Page) {
			p := storetest.Chain(1, 1, testTokens+1, testBytes-4)[0]
			_ = m.Set(key, string(newValueCodec(testKey, "llamero", testTokens+1, testBytes-4).value(p)))
		}, badHeader},
		{"another page", func(m *miniredis.Miniredis, key, _ string, _ storetest.Page) {
			_ = m.Set(key, string(c.value(strangers[0])))
		}, badAddress},
		{"the page before", func(m *miniredis.Miniredis, key, _ string, _ storetest.Page) {
			_ = m.Set(key, string(c.value(pages[1])))
		}, badAddress},
		{"another page's tokens", func(m *miniredis.Miniredis, key, _ string, p storetest.Page) {
			_ = m.Set(key, string(c.seal(c.fill(nil, p.Address, strangers[0].Tokens, strangers[0].KV))))
		}, badTokens},
		{"a list", func(m *miniredis.Miniredis, key, _ string, _ storetest.Page) {
			m.Del(key)
			_, _ = m.Push(key, "x")
		}, badType},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, m := redisPair(t, nil)
			storetest.Store(t, r, pages)
			key := r.key(pages[2].Address)
			good, err := m.Get(key)
			if err != nil {
				t.Fatal(err)
			}
			test.spoil(m, key, good, pages[2])
			for range 2 * tripAfter {
				if got := storetest.Get(t, r, pages); len(got) != 2 {
					t.Fatalf("%d pages, where the third is spoilt", len(got))
				}
			}
			st := r.Stats()
			if n := st.Bad[test.want.String()]; n != 2*tripAfter {
				t.Errorf("counted %d times as %v: %v", n, test.want, st.Bad)
			}
			if st.Open || st.Errors+st.Timeouts != 0 {
				t.Errorf("%+v", st)
			}
			storetest.Store(t, r, pages[2:3])
			if got := storetest.Get(t, r, pages); len(got) != len(pages) {
				t.Errorf("%d pages of %d after it was written anew", len(got), len(pages))
			}
		})
	}
}

// All that is kept apart: versions of the key, namespaces, databases, keys of the
// HMAC, page sizes.
func TestStrangersFindNothing(t *testing.T) {
	r, m := redisPair(t, nil)
	pages := chain(1, 2)
	storetest.Store(t, r, pages)
	for _, key := range m.Keys() {
		if !strings.HasPrefix(key, "llamero:1:") {
			t.Errorf("key %q", key)
		}
	}
	for name, change := range map[string]func(*RedisOptions){
		"namespace": func(o *RedisOptions) { o.Namespace = "other" },
		"database":  func(o *RedisOptions) { o.URL += "/1" },
		"key":       func(o *RedisOptions) { o.Key = []byte("another key than the test's") },
		"no key":    func(o *RedisOptions) { o.Key = nil },
		"page size": func(o *RedisOptions) { o.PageBytes *= 2 },
	} {
		opt := testOptions("redis://" + m.Addr())
		change(&opt)
		if got := storetest.Get(t, open(t, opt), pages); len(got) != 0 {
			t.Errorf("another %s finds %d pages", name, len(got))
		}
	}
	if _, _, err := r.Get(t.Context(), storetest.Want(storetest.Chain(1, 1, testTokens+1, testBytes))); err == nil {
		t.Error("a page of more tokens than pages have is asked for")
	}
}
