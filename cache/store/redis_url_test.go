package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOptionsFromURL(t *testing.T) {
	for _, test := range []struct {
		url, addrs                     string
		user, password, master         string
		sentinelUser, sentinelPassword string
		db                             int
		cluster, tls, local            bool
	}{
		{url: "redis://127.0.0.1:6379/0", addrs: "127.0.0.1:6379", local: true},
		{url: "redis://localhost", addrs: "localhost:6379", local: true},
		{url: "redis://[::1]:7000/3", addrs: "[::1]:7000", db: 3, local: true},
		{url: "redis://[::1]", addrs: "[::1]:6379", local: true},
		{url: "redis://cache.example/", addrs: "cache.example:6379"},
		{url: "redis://:p%40ss%2Fw%23rd@10.0.0.1:6379?db=2", addrs: "10.0.0.1:6379", password: "p@ss/w#rd", db: 2},
		{url: "rediss://user:pw@cache.example:6380/1", addrs: "cache.example:6380", user: "user", password: "pw", db: 1, tls: true},
		{url: "unix:///run/redis.sock", addrs: "/run/redis.sock", local: true},
		{url: "unix://user:pw@/run/redis.sock?db=4", addrs: "/run/redis.sock", user: "user", password: "pw", db: 4, local: true},
		{url: "redis://a:1?addr=b:2&addr=c:3", addrs: "a:1 b:2 c:3", cluster: true},
		{url: "redis://127.0.0.1:1?addr=10.0.0.1:2", addrs: "127.0.0.1:1 10.0.0.1:2", cluster: true},
		{url: "redis://a:1?cluster=true", addrs: "a:1", cluster: true},
		{url: "redis://a:1?cluster=false", addrs: "a:1"},
		{url: "redis://u:p@a/5?master_name=main&addr=b:2&sentinel_username=su&sentinel_password=sp",
			addrs: "a:26379 b:2", user: "u", password: "p", master: "main", sentinelUser: "su", sentinelPassword: "sp", db: 5},
	} {
		o, err := OptionsFromURL(test.url)
		if err != nil {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		if got := strings.Join(o.Addrs, " "); got != test.addrs || o.Username != test.user || o.Password != test.password ||
			o.MasterName != test.master || o.SentinelUsername != test.sentinelUser || o.SentinelPassword != test.sentinelPassword ||
			o.DB != test.db || o.IsClusterMode != test.cluster || (o.TLSConfig != nil) != test.tls || loopback(o.Addrs) != test.local {
			t.Errorf("%s: addresses %s, %+v", test.url, got, o)
		}
	}
}

// No error shows any part of a password, also where its characters were not encoded
// and the URL falls apart.
func TestWrongURLs(t *testing.T) {
	for url, want := range map[string]string{
		"":                                                 "must begin with",
		"127.0.0.1:6379":                                   "not a URL",
		"localhost:6379":                                   "must begin with",
		"http://SECRET@host":                               "must begin with",
		"redis:":                                           "names no host",
		"redis://":                                         "names no host",
		"redis://:SECRET@":                                 "names no host",
		"redis:host:6379":                                  "form",
		"redis://host:0":                                   "port from 1",
		"redis://host:70000":                               "port from 1",
		"redis://host:":                                    "",
		"redis://host:x":                                   "not a URL",
		"redis://host/SECRET":                              "a number from 0",
		"redis://host/-1":                                  "a number from 0",
		"redis://host/65536":                               "a number from 0",
		"redis://host/1/2":                                 "a number from 0",
		"redis://host/1?db=1":                              "twice",
		"redis://host?db=1&db=2":                           "must have one value",
		"redis://host?addr=":                               "must have one value",
		"redis://host?addr=b":                              "host:port",
		"redis://host?addr=:1":                             "host:port",
		"redis://a:1,b:2":                                  "",
		"redis://a,b:2":                                    "?addr=",
		"redis://host?cluster=maybe":                       "true or false",
		"redis://host/1?cluster=true":                      "database 0",
		"redis://host?cluster=true&master_name=m":          "exclude",
		"redis://host?sentinel_password=SECRET":            "master_name",
		"redis://host?SECRET=1":                            "none of addr",
		"redis://host?max_retries=3":                       "none of addr",
		"redis://host?%zz":                                 "not well-formed",
		"redis://host?tls_ca=/x":                           "want rediss",
		"rediss://host?tls_cert=/x":                        "want each other",
		"rediss://host?tls_ca=/no/such/file":               "tls_ca",
		"rediss://host?tls_cert=/no/such&tls_key=/no":      "tls_cert",
		"unix://host/run/redis.sock":                       "alone",
		"unix:///run/redis.sock?addr=a:1":                  "alone",
		"unix:relative.sock":                               "",
		"redis://user:SEC/RET@host:6379/0":                 "percent-encoded",
		"redis://user:SEC#RET@host:6379/0":                 "percent-encoded",
		"redis://user:SEC?RET@host:6379/0":                 "percent-encoded",
		"redis://user:12/SECRET@host:6379/0":               "percent-encoded",
		"redis://user:12?SECRET@host:6379/0":               "percent-encoded",
		"redis://user:12#SECRET@host:6379/0":               "percent-encoded",
		"redis://user:SEC%zzRET@host:6379":                 "percent-encoded",
		"redis://user:SEC RET@host:6379":                   "",
		"redis://user:SECRET@host:6379\x00":                "percent-encoded",
		"redis://user:SECRET@" + strings.Repeat("h", 5000): "longer than",
		"redis://h:1" + strings.Repeat("&addr=h:1", 70):    "",
		"redis://h:1?" + strings.Repeat("&addr=h:1", 70):   "more than",
	} {
		o, err := OptionsFromURL(url)
		if want == "" { // taken by the library, or refused: it only must not tell
			if err == nil {
				continue
			}
		} else if err == nil {
			t.Errorf("%q is taken: %+v", url, o)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; %q is wanted", url, err, want)
		}
		for _, part := range []string{"SEC", "RET", "12"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%q: the error shows %q: %v", url, part, err)
			}
		}
	}
	file := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OptionsFromURL("rediss://host?tls_ca=" + file); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("a file without certificates: %v", err)
	}
}

func FuzzURL(f *testing.F) {
	f.Add("redis://user:password@host:6379/0?addr=b:1&master_name=m")
	f.Add("unix:///run/redis.sock?db=1")
	f.Fuzz(func(t *testing.T, url string) {
		o, err := OptionsFromURL(url)
		if (o == nil) != (err != nil) {
			t.Fatalf("%+v and %v", o, err)
		}
		if err == nil && (len(o.Addrs) == 0 || len(o.Addrs) > maxRedisAddrs || o.DB < 0 || o.DB >= maxRedisDatabase) {
			t.Fatalf("%+v", o)
		}
	})
}

func TestRedisOptions(t *testing.T) {
	change := func(f func(*RedisOptions)) RedisOptions {
		o := testOptions("redis://127.0.0.1:1")
		f(&o)
		return o
	}
	for _, test := range []struct {
		name string
		opt  RedisOptions
		want []string // in the error; none: it is taken
	}{
		{"as it is", change(func(*RedisOptions) {}), nil},
		{"no key on loopback", change(func(o *RedisOptions) { o.Key = nil }), nil},
		{"no key on a socket", change(func(o *RedisOptions) { o.Key, o.URL = nil, "unix:///no/such.sock" }), nil},
		{"no key elsewhere", change(func(o *RedisOptions) { o.Key, o.URL = nil, "redis://10.255.0.1" }), []string{"without a key"}},
		{"no key, one node elsewhere", change(func(o *RedisOptions) { o.Key, o.URL = nil, "redis://localhost?addr=10.255.0.1:1" }), []string{"without a key"}},
		{"a name that only sounds local", change(func(o *RedisOptions) { o.Key, o.URL = nil, "redis://localhost.example" }), []string{"without a key"}},
		{"short key", change(func(o *RedisOptions) { o.Key = []byte("SECRET") }), []string{"16 to 1024 bytes"}},
		{"long key", change(func(o *RedisOptions) { o.Key = make([]byte, 2000) }), []string{"16 to 1024 bytes"}},
		{"namespace of another shape", change(func(o *RedisOptions) { o.Namespace = "{a}" }), []string{"namespace"}},
		{"long namespace", change(func(o *RedisOptions) { o.Namespace = strings.Repeat("a", 65) }), []string{"namespace"}},
		{"no page size", change(func(o *RedisOptions) { o.PageBytes, o.PageTokens = 0, 0 }), []string{"PageBytes", "PageTokens"}},
		{"page beyond MaxValue", change(func(o *RedisOptions) { o.PageBytes, o.MaxValue = 1<<20, 1<<20 }), []string{"more than MaxValue"}},
		{"all wrong", RedisOptions{
			URL: "http://SECRET@x", PageTokens: -1, PageBytes: 1 << 40, TTL: time.Millisecond, MaxValue: 1, Queue: -1, Writers: 1000, Readers: -3,
		}, []string{"URL", "PageTokens", "PageBytes", "TTL", "MaxValue", "Queue", "Writers", "Readers"}},
		{"TTL of ages", change(func(o *RedisOptions) { o.TTL = 1000 * 24 * time.Hour }), []string{"TTL"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := NewRedis(test.opt)
			if r != nil {
				defer r.Close()
			}
			if (err == nil) != (len(test.want) == 0) {
				t.Fatalf("error %v", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not name %s", err, want)
				}
			}
			if err != nil && strings.Contains(err.Error(), "SECRET") {
				t.Errorf("a secret in %v", err)
			}
		})
	}
	// With Insecure, and without a key, it is taken; the warning is the log's.
	r := open(t, change(func(o *RedisOptions) { o.Key, o.Insecure, o.URL = nil, true, "redis://192.0.2.1:1" }))
	if got := r.opt.Queue; got != defaultQueue || r.opt.Namespace != defaultNamespace || r.opt.TTL != defaultTTL {
		t.Errorf("defaults %+v", r.opt)
	}
}
