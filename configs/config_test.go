package configs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// Every setting has all its parts, and each name is used once.
func TestFieldsComplete(t *testing.T) {
	flagName := regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	path := regexp.MustCompile(`^[a-z]+\.[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	seen := map[string]string{}
	for _, f := range Fields() {
		if !path.MatchString(f.Path) {
			t.Errorf("%s: not a YAML path", f.Path)
		}
		if f.Doc == "" {
			t.Errorf("%s: no documentation", f.Path)
		}
		if f.Secret != (f.Flag == "") {
			t.Errorf("%s: a flag is for what is no secret, and for all of that", f.Path)
		}
		if f.Flag != "" && !flagName.MatchString(f.Flag) {
			t.Errorf("%s: flag %q", f.Path, f.Flag)
		}
		if want := EnvPrefix + strings.ToUpper(strings.ReplaceAll(f.Flag, "-", "_")); f.Flag != "" && f.Env != want || f.Env == EnvPrefix {
			t.Errorf("%s: environment %q, want %q", f.Path, f.Env, want)
		}
		for _, name := range []string{f.Path, f.Env, "--" + f.Flag} {
			if other := seen[name]; other != "" && name != "--" {
				t.Errorf("%s is used by %s and %s", name, other, f.Path)
			}
			seen[name] = f.Path
		}
		var c Config
		v := f.of(&c)
		numeric := v.Kind() == reflect.Int || v.Kind() == reflect.Int64
		if numeric != (f.Min != "" && f.Max != "") {
			t.Errorf("%s: a number has a range, and nothing else has", f.Path)
		}
		for _, bound := range []string{f.Min, f.Max} {
			if bound != "" {
				if err := f.set(&c, bound); err != nil {
					t.Errorf("%s: bound %q: %v", f.Path, bound, err)
				}
			}
		}
		if f.Auto == "" && f.Path == "engine.threads" {
			t.Errorf("%s: its default depends on the machine", f.Path)
		}
	}
	if n := len(seen); n < 60 {
		t.Errorf("only %d names", n)
	}
}

// other returns a valid value that is not the default, as text.
func other(t *testing.T, f Field) string {
	t.Helper()
	c := Default()
	v := f.of(&c)
	switch {
	case f.Secret:
		return "alice:s3cret,bob:t0ken"
	case f.Path == "server.listen" || f.Path == "telemetry.metrics_listen":
		return "127.0.0.1:9999"
	case f.Path == "cache.memory": // 0 would leave the tiers behind it alone
		return "64MiB"
	case f.Path == "cache.redis":
		return "redis://127.0.0.1:9999/3"
	case f.Path == "engine.devices": // of one worker, as there is by default
		return "1,GPU-8932f937"
	case f.Path == "engine.cpus":
		return "0-1,3"
	case f.Path == "server.api_keys_file":
		name := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(name, []byte("# ours\ncarol:abc\n\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	case len(f.Enum) > 0:
		for _, word := range f.Enum {
			if word != v.String() {
				return word
			}
		}
	case v.Kind() == reflect.Bool:
		return fmt.Sprint(!v.Bool())
	case v.Kind() == reflect.String:
		return "some: #text"
	case f.Min != "":
		var low Config
		if err := f.set(&low, f.Min); err != nil {
			t.Fatal(err)
		}
		if f.of(&low).Int() == v.Int() {
			return f.Max
		}
		return f.Min
	}
	t.Fatalf("no other value for %s", f.Path)
	return ""
}

func writeYAML(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func environ(kv map[string]string) func(string) (string, bool) {
	return func(k string) (string, bool) { v, ok := kv[k]; return v, ok }
}

func flags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

// Every setting can be set from each source, and arrives.
func TestEverySource(t *testing.T) {
	for _, f := range Fields() {
		t.Run(f.Path, func(t *testing.T) {
			text := other(t, f)
			want := Default()
			if err := f.set(&want, text); err != nil {
				t.Fatal(err)
			}
			want.Engine.divide(func(path string) bool { return path == f.Path })
			if f.Path == "server.api_keys_file" {
				want.Server.APIKeys = []Key{{"carol", "abc"}}
			}
			section, key, _ := strings.Cut(f.Path, ".")
			doc := fmt.Sprintf("%s:\n  %s: %q\n", section, key, text)
			if f.Secret {
				doc = "server:\n  api_keys:\n  - {name: alice, secret: s3cret}\n  - name: bob\n    secret: t0ken\n"
			}
			sources := map[string]Sources{
				"file":        {File: writeYAML(t, doc)},
				"environment": {Getenv: environ(map[string]string{f.Env: text})},
			}
			if f.Flag != "" {
				sources["flag"] = Sources{Flags: flags(t, "--"+f.Flag+"="+text)}
			}
			for name, src := range sources {
				got, err := Load(src)
				if err != nil {
					t.Errorf("%s: %v", name, err)
				} else if !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got %+v, want %+v", name, got, want)
				}
			}
		})
	}
}

func TestPrecedence(t *testing.T) {
	file := writeYAML(t, "engine: {slots: 2, context: 1024, threads: 3}\nlog:\n  level: warn\n")
	env := environ(map[string]string{"LLAMERO_SLOTS": "3", "LLAMERO_CONTEXT": "2048", "LLAMERO_LAYOUT": ""})
	c, err := Load(Sources{File: file, Getenv: env, Flags: flags(t, "--slots", "4")})
	if err != nil {
		t.Fatal(err)
	}
	if c.Engine.Slots != 4 || c.Engine.Context != 2048 || c.Engine.Threads != 3 || c.Log.Level != "warn" || c.Engine.Layout != "auto" {
		t.Errorf("got %+v %+v", c.Engine, c.Log)
	}
}

// Every problem of every source is reported, with its place and what is allowed.
func TestProblems(t *testing.T) {
	file := writeYAML(t, `
server:
  listen: nowhere
  api_keys:
  - {name: "a b", secret: hush-hush}
  - {name: c, secrt: hush-hush}
  body_limit: 10 parsecs
engine:
  slots: 0
  treads: 4
  layout: diagonal
  context:
  threads: [1, 2]
  kv_memory: 1
nonsense: 1
`)
	env := environ(map[string]string{"LLAMERO_TARGET_ITL": "250", "LLAMERO_QUEUE": "many"})
	_, err := Load(Sources{File: file, Getenv: env, Flags: flags(t, "--max-tokens", "-5")})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`server.listen: "nowhere" is not host:port, such as 127.0.0.1:8080 or [::1]:8080 (from c.yaml:3)`,
		`server.api_keys: the name of key 1 is not 1 to 64 of A-Z a-z 0-9 _ . - (from c.yaml:4)`,
		`server.api_keys[].secrt: no such setting; there are name, secret (from c.yaml:6)`,
		`server.body_limit: "10 parsecs" is not a size such as "2GiB", "512MiB" or a number of bytes (from c.yaml:7)`,
		`engine.slots: 0 is out of range, allowed are 1 to 250 (from c.yaml:9)`,
		`engine.treads: no such setting; there are lib, backend,`,
		`engine.layout: "diagonal" is not one of auto, split, unified (from c.yaml:11)`,
		`engine.context: it has no value; leave the line out to keep the default (from c.yaml:12)`,
		`engine.threads: not a plain value (from c.yaml:13)`,
		`engine.kv_memory: 1 is out of range, allowed are 16MiB to 4TiB (from c.yaml:14)`,
		`nonsense: no such setting; there are server, model, engine, scheduler, spec, cache, telemetry, log (from c.yaml:15)`,
		`scheduler.target_itl: "250" is not a duration with a unit such as "250ms", "30s" or "5m" (from LLAMERO_TARGET_ITL)`,
		`scheduler.queue: "many" is not a whole number (from LLAMERO_QUEUE)`,
		`scheduler.max_tokens: -5 is out of range, allowed are 0 to 1048576 (from --max-tokens)`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("lacks: %s", want)
		}
	}
	if strings.Contains(err.Error(), "hush-hush") {
		t.Error("an error shows a secret")
	}
	if t.Failed() {
		t.Log(err)
	}
	var p *Problem
	if !errors.As(err, &p) {
		t.Error("not a *Problem")
	}
}

func TestBrokenFiles(t *testing.T) {
	tests := []struct{ name, text, err string }{
		{"syntax", "engine:\n  slots: [1\n", "not YAML"},
		{"tab", "engine:\n\tslots: 1\n", "not YAML"},
		{"twice", "engine:\n  slots: 1\n  slots: 2\n", "c.yaml:3"},
		{"list", "- a\n- b\n", "not a mapping"},
		{"scalar", "hello\n", "not a mapping"},
		{"section is scalar", "engine: 5\n", "engine: not a mapping"},
		{"two documents", "log:\n  level: info\n---\nlog:\n  level: warn\n", "more than one"},
		{"anchor", "engine:\n  slots: &a 3\n  threads: *a\n", "not a plain value"},
		{"merge", "log: &l\n  level: info\nserver:\n  <<: *l\n", "no such setting"},
		{"too large", "#" + strings.Repeat("x", maxFile), "larger than 1MiB"},
		{"keys no list", "server:\n  api_keys: a:b\n", "not a list"},
		{"key no mapping", "server:\n  api_keys: [a]\n", "not a mapping"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(Sources{File: writeYAML(t, tt.text)})
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want one with %q", err, tt.err)
			}
		})
	}
	for _, text := range []string{"", "# nothing\n", "engine:\n", "engine:\n  # slots: 3\nlog:\n  level: info\n"} {
		if _, err := Load(Sources{File: writeYAML(t, text)}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Load(Sources{File: filepath.Join(t.TempDir(), "none.yaml")}); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("missing file: %v", err)
	}
}

// Without keys only loopback is served, unless told otherwise.
func TestListenOpen(t *testing.T) {
	keys := []Key{{"a", "b"}}
	tests := []struct {
		listen string
		open   bool
		keys   []Key
		ok     bool
	}{
		{"127.0.0.1:8080", false, nil, true},
		{"127.1.2.3:0", false, nil, true},
		{"[::1]:8080", false, nil, true},
		{"[::ffff:127.0.0.1]:8080", false, nil, true},
		{"localhost:8080", false, nil, true},
		{":8080", false, nil, false},
		{"0.0.0.0:8080", false, nil, false},
		{"[::]:8080", false, nil, false},
		{"192.168.1.2:8080", false, nil, false},
		{"example.org:8080", false, nil, false},
		{":8080", true, nil, true},
		{":8080", false, keys, true},
		{"127.0.0.1", false, nil, false},
		{"127.0.0.1:http", false, nil, false},
		{"127.0.0.1:70000", false, nil, false},
		{"127.0.0.1:", false, nil, false},
	}
	for _, tt := range tests {
		c := Default()
		c.Server.Listen, c.Server.AllowOpen, c.Server.APIKeys = tt.listen, tt.open, tt.keys
		if err := c.Validate(); (err == nil) != tt.ok {
			t.Errorf("%q open=%v keys=%d: %v", tt.listen, tt.open, len(tt.keys), err)
		}
	}
}

func TestKeys(t *testing.T) {
	tests := []struct{ env, err string }{
		{"a:b", ""},
		{"a:b, c:d:e ,", ""},
		{"secretwithoutname", "entry 1 is not name:secret"},
		{"a:b,a:c", `"a" is used twice`},
		{"a:b,c:b", "secret of another key"},
		{"a:", "secret of key 1"},
		{"a:b c", "secret of key 1"},
		{":b", "name of key 1"},
		{"a:" + strings.Repeat("x", maxSecret+1), "secret of key 1"},
	}
	for _, tt := range tests {
		_, err := Load(Sources{Getenv: environ(map[string]string{"LLAMERO_API_KEYS": tt.env})})
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%q: error %v, want %q", tt.env, err, tt.err)
		}
		if err != nil && strings.Contains(err.Error(), "secretwithoutname") {
			t.Error("an error shows a secret")
		}
	}
	empty := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(empty, []byte("# none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(Sources{Flags: flags(t, "--listen=:80", "--api-keys-file", empty)}); err == nil || !strings.Contains(err.Error(), "holds no keys") {
		t.Errorf("empty key file: %v", err)
	}
}

// However a configuration is printed or logged, no secret is in it.
func TestSecretsHidden(t *testing.T) {
	c := Default()
	c.Server.APIKeys = []Key{{"alice", "swordfish"}}
	c.Cache.Redis = "rediss://alice:swordfish@example.com:6379/0"
	out, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("x", "config", c, "key", c.Server.APIKeys[0], "secret", c.Server.APIKeys[0].Secret)
	}
	k := c.Server.APIKeys[0]
	all := out + log.String() + fmt.Sprintf("%v %+v %#v %s %q %x %v", c, c, c, k, k.Secret, k.Secret, k)
	if strings.Contains(all, "swordfish") || strings.Contains(all, fmt.Sprintf("%x", "swordfish")) {
		t.Errorf("a secret shows: %s", all)
	}
	if !strings.Contains(out, "api_keys: 1, not shown") {
		t.Errorf("the keys are not mentioned:\n%s", out)
	}
}

// What --print-config prints reads back as the same settings.
func TestYAMLRoundTrip(t *testing.T) {
	c := Default()
	for _, f := range Fields() {
		if f.Secret || f.Path == "server.api_keys_file" {
			continue
		}
		if err := f.set(&c, other(t, f)); err != nil {
			t.Fatal(err)
		}
	}
	c.Engine.Process, c.Engine.Workers, c.Engine.Devices, c.Engine.CPUs = "worker", 2, "0;1,2", "0-3;4" // they go together
	for _, text := range []string{"", "no", "~", "1.5", "{a}", "a: b # c", `q"'\`, "ü 🦙", "-", "null", "C:\\x"} {
		c.Model.Alias = text
		out, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Load(Sources{File: writeYAML(t, out)})
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Fatalf("alias %q: %v\n%s\ngot  %+v\nwant %+v", text, err, out, got, c)
		}
	}
}

func TestDefaults(t *testing.T) {
	c := Default()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.Engine.Threads > runtime.NumCPU() {
		t.Errorf("%d threads on %d CPUs", c.Engine.Threads, runtime.NumCPU())
	}
	for threads, want := range map[int]int{1: 8, 2: 16, 4: 32, 64: 32} {
		if got := slots(threads); got != want {
			t.Errorf("%d threads: %d slots, want %d", threads, got, want)
		}
	}
	for total, want := range map[uint64]Bytes{0: GiB, 1 << 20: 64 * MiB, 4 << 30: GiB, 1 << 45: 2 * GiB, 3<<30 + 12345: 768 * MiB} {
		if got := kvMemory(total, 1); got != want {
			t.Errorf("%d of memory: %s, want %s", total, got, want)
		}
	}
	if got := kvMemory(4<<30, 3); got != 320*MiB {
		t.Errorf("a third of a quarter of 4GiB: %s", got)
	}
	if backend("darwin", "arm64") != "metal" || backend("darwin", "amd64") != "cpu" || backend("linux", "arm64") != "cpu" {
		t.Error("default backend")
	}
}

// The files that people start from are whole.
func TestStartingFiles(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, name := range files {
		c, err := Load(Sources{File: name, Getenv: environ(map[string]string{"LLAMERO_API_KEYS": "test:x"})})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if reflect.DeepEqual(c, Default()) {
			t.Errorf("%s sets nothing", name)
		}
	}
}

func TestParseBytes(t *testing.T) {
	tests := []struct {
		text string
		want Bytes
		ok   bool
	}{
		{"0", 0, true}, {"123", 123, true}, {"1b", 1, true}, {"2GiB", 2 * GiB, true}, {"2 gib", 2 * GiB, true},
		{"1.5MiB", 1536 * KiB, true}, {"2G", 2e9, true}, {"2GB", 2e9, true}, {"1k", 1000, true}, {"3TiB", 3 * TiB, true},
		{"9223372036854775807", 1<<63 - 1, true},
		{"", 0, false}, {"GiB", 0, false}, {"-1", 0, false}, {"1e3", 0, false}, {"inf", 0, false}, {"0x10", 0, false},
		{"1.2.3", 0, false}, {"9999999999TiB", 0, false}, {"9223372036854775808", 0, false}, {"5 apples", 0, false},
	}
	for _, tt := range tests {
		got, err := ParseBytes(tt.text)
		if (err == nil) != tt.ok || got != tt.want {
			t.Errorf("%q: %d, %v; want %d, %v", tt.text, got, err, tt.want, tt.ok)
		}
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"2GiB", "1.5m", "", "9e9", "-4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseBytes(s)
		if err != nil {
			return
		}
		if n < 0 {
			t.Fatalf("%q is negative: %d", s, n)
		}
		if again, err := ParseBytes(n.String()); err != nil || again != n {
			t.Fatalf("%q is %d, prints %s, reads %d (%v)", s, n, n, again, err)
		}
	})
}

// No file, whatever it holds, ends the process.
func FuzzFile(f *testing.F) {
	f.Add("engine:\n  slots: 4\n")
	f.Add("server:\n  api_keys: [{name: a, secret: b}]\n")
	f.Add("a: &x [*x]\n<<: {}\n")
	f.Fuzz(func(t *testing.T, text string) {
		name := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(Sources{File: name})
		if err == nil && c.Validate() != nil {
			t.Error("loaded, yet not valid")
		}
	})
}

func TestShortDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", time.Minute: "1m", time.Hour: "1h", 90 * time.Second: "1m30s", 10 * time.Second: "10s", 20 * time.Minute: "20m", 250 * time.Millisecond: "250ms", 61 * time.Minute: "1h1m"} {
		if got := shortDuration(d); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}
