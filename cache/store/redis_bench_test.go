package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"llamero/cache/store/storetest"
)

// Pages of the default model, and the largest.
var benchSizes = []struct{ tokens, bytes int }{{16, 360 << 10}, {32, 2 << 20}}

func BenchmarkValue(b *testing.B) {
	for _, size := range benchSizes {
		c := newValueCodec(testKey, "llamero", size.tokens, size.bytes)
		page := storetest.Chain(1, 1, size.tokens, size.bytes)[0]
		name := fmt.Sprintf("%dKiB", size.bytes>>10)
		b.Run("encode/"+name, func(b *testing.B) {
			var buf []byte
			b.SetBytes(int64(size.bytes))
			b.ReportAllocs()
			for b.Loop() {
				buf = c.seal(c.fill(buf, page.Address, page.Tokens, page.KV))
			}
		})
		b.Run("verify/"+name, func(b *testing.B) {
			v := c.value(page)
			b.SetBytes(int64(size.bytes))
			b.ReportAllocs()
			for b.Loop() {
				if _, flaw := c.open(v, page.Address, page.Tokens); flaw != sound {
					b.Fatal(flaw)
				}
			}
		})
	}
}

// BenchmarkRedisGet reads a prompt of 800 tokens of the default model from a server on
// this machine, and one that is not there.
func BenchmarkRedisGet(b *testing.B) {
	const n, tokens, bytes = 50, 16, 360 << 10
	opt := testOptions(startRedis(b).url())
	opt.PageTokens, opt.PageBytes = tokens, bytes
	r := open(b, opt)
	pages := storetest.Chain(1, n, tokens, bytes)
	storetest.Store(b, r, pages)
	get := func(b *testing.B, pages []storetest.Page) int {
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()
		got, release, err := r.Get(ctx, storetest.Want(pages))
		if err != nil {
			b.Fatal(err)
		}
		release()
		return len(got)
	}
	b.Run("hit", func(b *testing.B) {
		b.SetBytes(n * bytes)
		for b.Loop() {
			if got := get(b, pages); got != n {
				b.Fatalf("%d pages", got)
			}
		}
	})
	b.Run("miss", func(b *testing.B) {
		strangers := storetest.Chain(2, n, tokens, bytes)
		for b.Loop() {
			if got := get(b, strangers); got != 0 {
				b.Fatalf("%d pages", got)
			}
		}
	})
}
