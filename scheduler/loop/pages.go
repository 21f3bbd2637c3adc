package loop

import (
	"context"
	"errors"
	"time"

	"llamero/cache"
	"llamero/engine"
	"llamero/scheduler"
)

// Pages say where computed prefixes are kept. The zero value keeps none.
type Pages struct {
	// Host is the account of the engine's host pages, which the loop, or the Group, then
	// owns.
	Host *cache.Host
	// Root says below which address a tenant's pages are: those with the same root
	// share what they compute.
	Root func(tenant string) cache.Address

	// Remote is a tier that other processes share; nil: there is none. Memory is that
	// of the host pages, see engine.Limits.Page, and Wait how long a request waits for
	// what Remote has of its prompt; 100 ms.
	Remote cache.Remote
	Memory []byte
	Wait   time.Duration

	// Journal writes down what the host pages hold, for a process that comes later;
	// nil: nobody does.
	Journal Journal
}

// Journal is a record of what host pages hold.
type Journal interface {
	// Clear says that a page is about to be overwritten.
	Clear(page int32) error
	// Put says what a page holds; it does not wait. release is called once the page is
	// no longer looked at.
	Put(e cache.Entry, release func())
}

const defaultWait = 100 * time.Millisecond

func (p *Pages) check(l engine.Limits) error {
	if p.Host == nil {
		if p.Remote != nil || p.Journal != nil {
			return errors.New("loop: a remote tier or a journal without host pages")
		}
		return nil
	}
	if p.Root == nil || p.Host.Stats().Pages != l.Pages || p.Host.PageTokens() != l.PageTokens {
		return errors.New("loop: the account of pages is not that of the engine's, or there is no root")
	}
	if p.Remote != nil && (l.Pages == 0 || len(p.Memory) < l.Pages*l.PageBytes || p.Wait < 0) {
		return errors.New("loop: a remote tier without the memory of the host pages, or with a negative wait")
	}
	if p.Wait == 0 {
		p.Wait = defaultWait
	}
	return nil
}

// arrival is what the remote tier had for a request.
type arrival struct {
	id    scheduler.ID
	began scheduler.Tick
	asked int // pages
	pages [][]byte

	release func() // their memory
}

// fetch looks for a request's pages in the remote tier, if that is worth it. It does
// not wait: the request does.
func (l *Loop) fetch(id scheduler.ID) {
	p := &l.opt.Pages
	if p.Remote == nil {
		return
	}
	want := l.wanted(id)
	if want == nil {
		l.asking.Add(-l.asking.Load() / 64) // a tier that was slow once is asked again
		return
	}
	began := l.now()
	l.fetches.Go(func() {
		ctx, cancel := context.WithTimeout(l.fetchCtx, p.Wait)
		defer cancel()
		pages, release, err := p.Remote.Get(ctx, want)
		pages = l.whole(pages, len(want))
		took := time.Duration(l.now() - began)
		l.asked(took)
		if err != nil {
			l.opt.Log.Debug("remote pages", "wanted", len(want), "got", len(pages), "took", took, "error", err)
		}
		l.mu.Lock()
		l.arrivals = append(l.arrivals, arrival{id, began, len(want), pages, release})
		l.mu.Unlock()
		l.poke()
	})
}

// whole cuts off what is no page, or was not asked for: what a page that is too short
// leaves of its place is what was there before.
func (l *Loop) whole(pages [][]byte, most int) [][]byte {
	for i, p := range pages {
		if i == most || len(p) != l.limits.PageBytes {
			return pages[:i]
		}
	}
	return pages
}

// asked keeps what asking the remote tier takes.
func (l *Loop) asked(took time.Duration) {
	old := l.asking.Load()
	if old == 0 {
		old = int64(took)
	}
	l.asking.Store(old + (int64(took)-old)/8)
}

func (l *Loop) wanted(id scheduler.ID) []cache.Wanted {
	l.account.mu.Lock()
	defer l.account.mu.Unlock()
	return l.sched.Fetch(id, l.asking.Load())
}

// settle takes what has come from the remote tier into host pages. No step of this
// loop's runs meanwhile.
func (l *Loop) settle(arrivals []arrival) {
	for _, a := range arrivals {
		l.store(&a)
		a.release()
		pt := l.limits.PageTokens
		l.deliver([]scheduler.Event{{ID: a.id, Kind: scheduler.EventLookup, At: l.now(),
			Lookup: &scheduler.Lookup{Began: a.began, Asked: a.asked * pt, Found: len(a.pages) * pt}}})
	}
}

// store writes pages to where there is room for them.
func (l *Loop) store(a *arrival) {
	l.account.mu.Lock()
	places := l.sched.Fetched(a.id, len(a.pages))
	l.account.mu.Unlock()
	var written []int32
	for i, p := range places {
		if p >= 0 && i < len(a.pages) {
			l.clear(p)
			copy(l.limits.Page(l.opt.Pages.Memory, p), a.pages[i])
			written = append(written, p)
		}
	}
	l.account.mu.Lock()
	l.sched.Stored()
	entries := l.pin(written, l.opt.Pages.Journal != nil)
	l.account.mu.Unlock()
	for _, e := range entries {
		l.opt.Pages.Journal.Put(e, l.account.unpin(e.Page))
	}
	if len(written) > 0 {
		l.account.tell(l)
	}
}

// pin keeps pages where they are, once for each that reads them. The account is locked.
func (l *Loop) pin(pages []int32, readers ...bool) (entries []cache.Entry) {
	for _, p := range pages {
		var e cache.Entry
		pinned := false
		for _, reads := range readers {
			if reads {
				e, pinned = l.account.host.Pin(p), true
			}
		}
		if pinned {
			entries = append(entries, e)
		}
	}
	return entries
}

// clear tells the journal of pages that are about to be overwritten. Where it cannot
// take that down, the page's checksum will tell later.
func (l *Loop) clear(pages ...int32) {
	if l.opt.Pages.Journal == nil {
		return
	}
	for _, p := range pages {
		if p < 0 {
			continue
		}
		if err := l.opt.Pages.Journal.Clear(p); err != nil {
			l.opt.Log.Debug("the journal of pages", "error", err)
		}
	}
}

// keep pins what has just been saved until share. The account is locked.
func (l *Loop) keep(pages []int32) {
	l.saved = append(l.saved, l.pin(pages, l.opt.Pages.Journal != nil, l.opt.Pages.Remote != nil)...)
}

// share hands what has been saved to the journal and to the remote tier.
func (l *Loop) share() {
	for _, e := range l.saved {
		if journal := l.opt.Pages.Journal; journal != nil {
			journal.Put(e, l.account.unpin(e.Page))
		}
		if remote := l.opt.Pages.Remote; remote != nil {
			remote.Put(e.Address, e.Tokens, l.limits.Page(l.opt.Pages.Memory, e.Page), l.account.unpin(e.Page))
		}
	}
	clear(l.saved)
	l.saved = l.saved[:0]
}
