package configs

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Problem is one thing wrong with a configuration.
type Problem struct {
	Path   string // the setting's YAML path; "" where there is none (a broken file)
	Source string // "--slots", "LLAMERO_SLOTS", "my.yaml:12"; "" is a default or unknown
	Text   string // what is wrong and what is allowed
}

func (p *Problem) Error() string {
	s := p.Text
	if p.Path != "" {
		s = p.Path + ": " + s
	}
	if p.Source != "" {
		s += " (from " + p.Source + ")"
	}
	return s
}

// Bounds of what is free text.
const (
	maxText   = 4096 // bytes of a path or name
	maxKeys   = 10_000
	maxSecret = 512
)

var keyName = regexp.MustCompile(`^[A-Za-z0-9_.\-]{1,64}$`)

// Validate reports every problem, as *Problem values joined; nil is a valid
// configuration. It looks at no file and opens no port.
func (c *Config) Validate() error {
	var errs []error
	for _, p := range c.problems() {
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

func (c *Config) problems() []*Problem {
	var out []*Problem
	add := func(path, format string, args ...any) {
		out = append(out, &Problem{Path: path, Text: fmt.Sprintf(format, args...)})
	}
	for _, f := range table {
		if text := f.check(f.of(c)); text != "" {
			add(f.Path, "%s", text)
		}
	}
	c.checkListen(add)
	c.checkWorkers(add)
	if s := c.Spec; s.Mode == "draft" && s.DraftModel == "" {
		add("spec.mode", "draft needs a draft model: name one with --draft-model")
	}
	c.checkCache(add)
	c.checkKeys(add)
	return out
}

// check holds a value against its tags.
func (f Field) check(v reflect.Value) string {
	if v.Kind() == reflect.String {
		s := v.String()
		switch {
		case len(f.Enum) > 0 && !slices.Contains(f.Enum, s):
			return fmt.Sprintf("%q is not one of %s", clip(s), f.Allowed())
		case len(s) > maxText:
			return fmt.Sprintf("longer than %d bytes", maxText)
		case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) || !utf8.ValidString(s):
			return "holds control characters or invalid UTF-8"
		}
		return ""
	}
	if f.Min == "" {
		return ""
	}
	low, high := reflect.New(v.Type()).Elem(), reflect.New(v.Type()).Elem()
	if err := errors.Join(parse(low, f.Min), parse(high, f.Max)); err != nil {
		panic("configs: range of " + f.Path + ": " + err.Error()) // a test reads every range
	}
	if v.Int() < low.Int() || v.Int() > high.Int() {
		return fmt.Sprintf("%s is out of range, allowed are %s", format(v), f.Allowed())
	}
	return ""
}

func (c *Config) checkListen(add func(path, format string, args ...any)) {
	if c.Telemetry.MetricsListen != "" {
		checkAddress("telemetry.metrics_listen", c.Telemetry.MetricsListen, add)
	}
	host, ok := checkAddress("server.listen", c.Server.Listen, add)
	if ok && !loopback(host) && len(c.Server.APIKeys) == 0 && c.Server.APIKeysFile == "" && !c.Server.AllowOpen {
		add("server.listen", "%s is reachable from other machines and no API keys are set: set api_keys or api_keys_file, listen on 127.0.0.1, or say --allow-open", clip(c.Server.Listen))
	}
}

func (c *Config) checkCache(add func(path, format string, args ...any)) {
	if c.Cache.Memory == 0 {
		if c.Cache.Dir != "" {
			add("cache.dir", "prefixes are kept in memory first: cache.memory is 0")
		}
		if c.Cache.Redis != "" {
			add("cache.redis", "prefixes are kept in memory first: cache.memory is 0")
		}
	}
	if u := c.Cache.Redis.Reveal(); u != "" && !redisURL.MatchString(u) {
		add("cache.redis", "not a URL such as redis://127.0.0.1:6379/0 or rediss://HOST:6379/0")
	}
}

var redisURL = regexp.MustCompile(`^(redis|rediss|unix)://`)

// checkAddress says what is wrong with a host:port, and returns its host if it is one.
func checkAddress(path, addr string, add func(path, format string, args ...any)) (host string, ok bool) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		add(path, "%q is not host:port, such as 127.0.0.1:8080 or [::1]:8080", clip(addr))
		return "", false
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || (n == 0 && port != "0") {
		add(path, "port %q is not a number from 0 to 65535", clip(port))
	}
	return host, true
}

// loopback reports whether only this machine reaches host. A name other than
// localhost is not resolved: what it means may change.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func (c *Config) checkKeys(add func(path, format string, args ...any)) {
	const path = "server.api_keys"
	if len(c.Server.APIKeys) > maxKeys {
		add(path, "%d keys, allowed are %d", len(c.Server.APIKeys), maxKeys)
		return
	}
	names, secrets := map[string]bool{}, map[Secret]bool{}
	for i, k := range c.Server.APIKeys {
		if !keyName.MatchString(k.Name) {
			add(path, "the name of key %d is not 1 to 64 of A-Z a-z 0-9 _ . -", i+1)
		}
		if names[k.Name] {
			add(path, "the name %q is used twice", clip(k.Name))
		}
		if s := k.Secret.Reveal(); s == "" || len(s) > maxSecret || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
			add(path, "the secret of key %d is not 1 to %d printable ASCII characters without spaces", i+1, maxSecret)
		}
		if secrets[k.Secret] {
			add(path, "key %d has the secret of another key", i+1)
		}
		names[k.Name], secrets[k.Secret] = true, true
	}
}

// clip keeps what is quoted in an error short.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
