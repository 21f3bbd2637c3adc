package store

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// How long the client waits. A request's deadline shortens each of them.
const (
	dialTimeout = 200 * time.Millisecond
	ioTimeout   = 150 * time.Millisecond // of one write, and of the replies to one pipeline
	idleTimeout = 5 * time.Minute
	ioBuffer    = 64 << 10
)

// silent drops what go-redis writes to the process's standard error by itself: each
// of its errors comes back to us.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(silent{}) }

// newClient returns a client that has not connected yet, for so many calls at once.
// No string in a reply may be longer than maxString. With onlyLocal it connects to
// nothing beyond this machine, whatever a Cluster or a Sentinel names.
func newClient(o *redis.UniversalOptions, calls, maxString int, onlyLocal bool) redis.UniversalClient {
	own := *o
	own.Protocol = 2 // no push messages are wanted
	own.Dialer = dialer(o.TLSConfig, maxString, onlyLocal)
	own.DialTimeout, own.ReadTimeout, own.WriteTimeout = dialTimeout, ioTimeout, ioTimeout
	own.ContextTimeoutEnabled = true // else a deadline of 25 ms takes the read timeout
	own.MaxRetries, own.MaxRedirects = -1, 2
	own.DialerRetries = 1
	own.PoolSize, own.MaxActiveConns = calls, calls
	own.PipelinePoolSize = -1
	own.PoolTimeout = dialTimeout
	own.ConnMaxIdleTime = idleTimeout
	own.ReadBufferSize, own.WriteBufferSize = ioBuffer, ioBuffer
	own.DisableIdentity = true // a round trip, and a right that a user may lack
	own.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if own.IsClusterMode {
		c := own.Cluster()
		c.DisableRoutingPolicies = true // every command of ours names its key
		return redis.NewClusterClient(c)
	}
	return redis.NewUniversalClient(&own)
}

// dialer connects, with TLS where c is not nil.
func dialer(c *tls.Config, maxString int, onlyLocal bool) func(context.Context, string, string) (net.Conn, error) {
	d := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	if onlyLocal {
		// Looked at as resolved, since anybody can be called localhost.
		d.Control = func(network, addr string, _ syscall.RawConn) error {
			if network != "unix" && !loopback([]string{addr}) {
				return fmt.Errorf("%s is not on this machine, and there is no key to authenticate pages with", addr)
			}
			return nil
		}
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		var conn net.Conn
		var err error
		if c == nil {
			conn, err = d.DialContext(ctx, network, addr)
		} else {
			conn, err = (&tls.Dialer{NetDialer: d, Config: c}).DialContext(ctx, network, addr)
		}
		if err != nil {
			return nil, err
		}
		return guarded(conn, maxString), nil
	}
}
