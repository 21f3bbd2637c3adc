package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/redis/go-redis/v9"

	"llamero/cache"
)

// Errors of a Redis tier beside those of the network.
var (
	// ErrUnavailable: Redis did not answer lately, and is not asked until a probe says
	// that it does.
	ErrUnavailable = errors.New("redis: not available at the moment")
	// ErrClosed: the tier has been closed.
	ErrClosed = errors.New("redis: the tier is closed")
)

// RedisOptions are those of a Redis tier; zero values are defaults where one is
// named.
type RedisOptions struct {
	URL       string // as OptionsFromURL reads it
	Key       []byte // authenticates pages, 16 bytes to 1 KiB; the same for all who share them
	Insecure  bool   // without a key, allow a Redis that is not on this machine
	Namespace string // begins each key; "llamero"

	PageTokens int // of each page
	PageBytes  int // of its KV

	TTL      time.Duration // for which Redis keeps a page after it was written; 24 h
	MaxValue int           // bytes that one value may have; 16 MiB
	Queue    int           // pages that may wait to be written; 64
	Writers  int           // goroutines that write; 2
	Readers  int           // calls of Get that read at once; 4

	Log      *slog.Logger // nil: slog.Default
	Observer RedisObserver
}

// RedisObserver is told what a tier does, for metrics. Its funcs are called
// concurrently and must not wait. Nil funcs are not called.
type RedisObserver struct {
	Get func(took time.Duration, pages int, err error) // a call of Get that went to Redis
	Put func(took time.Duration, bytes int, err error) // a page was written, or could not be
}

const (
	defaultNamespace = "llamero"
	defaultTTL       = 24 * time.Hour
	maxTTL           = 366 * 24 * time.Hour
	defaultMaxValue  = 16 << 20
	mostMaxValue     = 512 << 20 // Redis takes no more
	defaultQueue     = 64
	maxQueue         = 1 << 16
	defaultWriters   = 2
	defaultReaders   = 4
	maxGoroutines    = 64
	maxPageTokens    = 1 << 16
	minKeyBytes      = 16
	maxKeyBytes      = 1 << 10

	recentPages = 16 << 10 // addresses that are remembered as being in Redis
	maxRecent   = 10 * time.Minute
	warnEvery   = time.Minute
)

// localKey stands in where Redis is this machine's own and no key was given. It is
// known to everybody: it finds damage, not forgery.
const localKey = "llamero: pages in this machine's own Redis"

// A brace would put all keys of a Cluster on one node.
var namespacePattern = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)

// Redis is a tier of pages in Redis.
type Redis struct {
	opt    RedisOptions
	where  string // Redis's addresses, for people
	prefix string // of every key
	client redis.UniversalClient
	codec  *valueCodec
	log    *slog.Logger

	breaker breaker
	readers chan struct{} // one for each that reads
	buffers *buffers      // for what they read
	queue   chan put
	// recent are pages that this process wrote or read, and until when it takes them
	// to be in Redis still.
	recent  *lru.Cache[cache.Address, time.Time]
	refused atomic.Int64 // until when Redis, which refused a page, gets none; ns since 1970
	warned  [numberWarnings]atomic.Int64
	counts  counts

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup // all goroutines

	mu     sync.Mutex // guards closed, and the queue against being closed
	closed bool
}

var _ cache.Remote = (*Redis)(nil)

// NewRedis returns a tier, and does not wait for Redis: whether that is there is
// found out, and logged, in the background.
func NewRedis(opt RedisOptions) (*Redis, error) {
	target, err := opt.validate(true)
	if err != nil {
		return nil, err
	}
	key := opt.Key
	if len(key) == 0 {
		key = []byte(localKey)
	}
	recent, err := lru.New[cache.Address, time.Time](recentPages)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Redis{
		opt:     opt,
		where:   where(target),
		prefix:  opt.Namespace + ":" + strconv.Itoa(valueVersion) + ":",
		codec:   newValueCodec(key, opt.Namespace, opt.PageTokens, opt.PageBytes),
		log:     opt.Log,
		readers: make(chan struct{}, opt.Readers),
		queue:   make(chan put, opt.Queue),
		recent:  recent,
		ctx:     ctx,
		cancel:  cancel,
	}
	longest := max(r.codec.size()+1, maxReplyLine)
	r.buffers = newBuffers(r.codec.size() + replySlack)
	r.client = newClient(target, opt.Readers+opt.Writers+1, longest, len(opt.Key) == 0 && !opt.Insecure)
	if len(opt.Key) == 0 && !loopback(target.Addrs) {
		r.log.Warn("pages are shared without a key: whoever can write to this redis can make the engine read anything", "redis", r.where)
	}
	for range opt.Writers {
		r.work.Go(r.write)
	}
	r.work.Go(r.greet)
	r.work.Go(r.buffers.ready)
	return r, nil
}

// Check names every problem with the options, whatever pages will be like.
func (o RedisOptions) Check() error {
	_, err := o.validate(false)
	return err
}

// validate fills in defaults and names every problem.
func (o *RedisOptions) validate(pages bool) (*redis.UniversalOptions, error) {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	between := func(name string, v *int, fallback, least, most int) {
		if *v == 0 {
			*v = fallback
		}
		if *v < least || *v > most {
			problem("%s must be from %d to %d, not %d", name, least, most, *v)
		}
	}
	if o.Namespace == "" {
		o.Namespace = defaultNamespace
	}
	if o.TTL == 0 {
		o.TTL = defaultTTL
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	target, err := OptionsFromURL(o.URL)
	switch {
	case err != nil:
		problem("URL: %w", err)
	case len(o.Key) == 0 && !o.Insecure && !loopback(target.Addrs):
		problem("without a key to authenticate pages with, Redis must be on this machine: whoever can write to it could make the engine read anything")
	}
	if n := len(o.Key); n != 0 && (n < minKeyBytes || n > maxKeyBytes) {
		problem("the key must have %d to %d bytes, not %d", minKeyBytes, maxKeyBytes, n)
	}
	if !namespacePattern.MatchString(o.Namespace) {
		problem("the namespace must be 1 to 64 of A-Z a-z 0-9 . _ : -")
	}
	if o.TTL < time.Second || o.TTL > maxTTL {
		problem("TTL must be from 1s to %v, not %v", maxTTL, o.TTL)
	}
	between("MaxValue", &o.MaxValue, defaultMaxValue, 1<<10, mostMaxValue)
	if pages {
		between("PageTokens", &o.PageTokens, 0, 1, maxPageTokens)
		between("PageBytes", &o.PageBytes, 0, 1, mostMaxValue)
	}
	between("Queue", &o.Queue, defaultQueue, 1, maxQueue)
	between("Writers", &o.Writers, defaultWriters, 1, maxGoroutines)
	between("Readers", &o.Readers, defaultReaders, 1, maxGoroutines)
	if n := valueBytes(o.PageTokens, o.PageBytes); len(problems) == 0 && n > o.MaxValue {
		problem("a page of %d tokens and %d bytes makes a value of %d, more than MaxValue, which is %d: use smaller pages", o.PageTokens, o.PageBytes, n, o.MaxValue)
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("redis: %w", errors.Join(problems...))
	}
	return target, nil
}

// String says where Redis is, without a password.
func (r *Redis) String() string { return "redis at " + r.where }

func (r *Redis) key(a cache.Address) string { return fmt.Sprintf("%s%x", r.prefix, a[:]) }

// Close ends the reading and writing; what waits in the queue is dropped.
func (r *Redis) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	close(r.queue)
	r.mu.Unlock()
	r.cancel()
	err := r.client.Close() // who waits for a socket wakes up
	r.work.Wait()
	return err
}

// spawn runs f, unless the tier is closed.
func (r *Redis) spawn(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.work.Go(f)
	return true
}

// remember notes that a page is in Redis. A page that was read may expire at any
// time, hence not for long.
func (r *Redis) remember(a cache.Address) {
	r.recent.Add(a, time.Now().Add(min(r.opt.TTL/2, maxRecent)))
}

func (r *Redis) remembers(a cache.Address) bool {
	until, ok := r.recent.Get(a)
	return ok && time.Now().Before(until)
}

// Things to warn of, each at most once in a while.
const (
	warnBad = iota
	warnRefused
	numberWarnings
)

func (r *Redis) warn(what int, msg string, args ...any) {
	now := time.Now().UnixNano()
	last := r.warned[what].Load()
	if (last == 0 || now-last > int64(warnEvery)) && r.warned[what].CompareAndSwap(last, now) {
		r.log.Warn(msg, append(args, "redis", r.where)...)
	}
}
