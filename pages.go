package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"syscall"

	"llamero/cache"
	"llamero/cache/store"
	"llamero/configs"
	"llamero/engine/worker"
	"llamero/models"
	"llamero/scheduler/loop"
	"llamero/server/telemetry"
)

// pages is a served model's prefix cache: its memory, which the engine is opened
// with, and what is known of it, which the loop is.
type pages struct {
	loop.Pages
	slab  worker.Memory // its File is there for engines in processes of their own
	key   []byte
	dir   *store.Dir   // nil: the memory is this gateway's alone
	redis *store.Redis // nil: nobody else shares it
}

// openPages takes the memory, shared with children if there are some. Without any
// there is no cache. What can be known to be wrong with the tiers behind it is found
// here, before the model is loaded.
func openPages(c configs.Cache, shared bool) (p *pages, err error) {
	p = &pages{}
	if c.KeyFile != "" {
		if p.key, err = readKey(c.KeyFile); err != nil {
			return nil, err
		}
	}
	if c.Redis != "" {
		if err := p.redisOptions(c).Check(); err != nil {
			return nil, fmt.Errorf("%w (--redis)", err)
		}
	}
	switch {
	case c.Memory == 0:
	case c.Dir != "":
		p.dir, err = store.OpenDir(c.Dir, int64(c.Memory))
		if errors.Is(err, syscall.ENOSPC) {
			return nil, fmt.Errorf("%w; make room there, or take less with --cache-memory (--cache-dir)", err)
		}
		if err != nil {
			return nil, fmt.Errorf("%w (--cache-dir)", err)
		}
		p.slab.Bytes = p.dir.Memory()
		if shared {
			if p.slab.File, err = p.dir.Open(); err != nil {
				return nil, fmt.Errorf("%w (--cache-dir)", err)
			}
		}
	case shared:
		if p.slab, err = worker.NewSlab(int64(c.Memory)); err != nil {
			return nil, fmt.Errorf("%w (--cache-memory)", err)
		}
	default:
		if p.slab.Bytes, err = store.NewSlab(int64(c.Memory)); err != nil {
			return nil, fmt.Errorf("%w (--cache-memory)", err)
		}
	}
	return p, nil
}

func (p *pages) redisOptions(c configs.Cache) store.RedisOptions {
	return store.RedisOptions{URL: c.Redis.Reveal(), Key: p.key, Insecure: c.RedisInsecure, TTL: c.RedisTTL}
}

const minKey, maxKey = 16, 1024 // bytes

func readKey(name string) ([]byte, error) {
	b, err := readLimited(name, maxKey)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the cache's key (--cache-key-file): %w", err)
	case len(b) < minKey || len(b) > maxKey:
		return nil, fmt.Errorf("the cache's key %s (--cache-key-file) is not of %d to %d bytes", name, minKey, maxKey)
	}
	return b, nil
}

// attach finds out what the memory holds for an engine that has been opened with it.
func (p *pages) attach(c configs.Config, e worker.Engine, model string, watch *telemetry.Telemetry, log *slog.Logger) error {
	if err := e.Unpaged(); err != nil {
		log.Warn("the model is served without a prefix cache", "reason", err)
	}
	l := e.Limits()
	if l.Pages == 0 {
		return nil
	}
	lru, err := store.NewLRU(l.Pages)
	if err != nil {
		return err
	}
	p.Host = cache.NewHost(l.Pages, l.PageTokens, lru)
	p.Memory = p.slab.Bytes
	identity := cache.Root("this process")
	if p.dir != nil || c.Cache.Redis != "" {
		// Pages that others wrote: what they are of must be what is served here.
		digest, err := models.Digest(model)
		if err != nil {
			return err
		}
		of := []string{"llamero pages 1", digest, "llama.cpp " + models.LlamaCPPVersion(),
			c.Engine.TypeK, c.Engine.TypeV, e.Form(), strconv.Itoa(l.PageTokens)}
		if draft := c.Spec.Draft(); draft != "" { // what it has read stands in pages too
			if digest, err = models.Digest(draft); err != nil {
				return err
			}
			of = append(of, digest)
		}
		identity = cache.Root(of...)
	}
	p.Root = func(tenant string) cache.Address {
		if c.Cache.ShareTenants {
			return cache.Root(string(identity[:]), "shared")
		}
		mac := hmac.New(sha256.New, p.key)
		mac.Write([]byte(tenant))
		return cache.Root(string(identity[:]), "tenant", string(mac.Sum(nil)))
	}
	if p.dir != nil {
		entries, err := p.dir.Load(identity, l.PageTokens, l.PageBytes, l.Pages)
		if err != nil {
			return err
		}
		p.Journal = p.dir
		log.Info("prefix cache", "dir", c.Cache.Dir, "pages found", p.Host.Load(entries), "of", l.Pages)
	}
	if c.Cache.Redis != "" {
		opt := p.redisOptions(c.Cache)
		opt.PageTokens, opt.PageBytes, opt.Log = l.PageTokens, l.PageBytes, log
		observer, gauges := watch.Redis(alias(c.Model))
		opt.Observer = observer
		if p.redis, err = store.NewRedis(opt); err != nil {
			return err
		}
		gauges(p.redis)
		p.Remote, p.Wait = p.redis, c.Cache.RedisWait
	}
	return nil
}

// close writes down what is to be kept; the loop has ended.
func (p *pages) close() error {
	var errs []error
	if p.redis != nil {
		errs = append(errs, p.redis.Close())
	}
	if p.dir != nil {
		errs = append(errs, p.dir.Close())
	}
	return errors.Join(errs...)
}
