package bench

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

var someOptions = Options{Seed: 7, Clients: 8, Words: 50, Tokens: 64, Turns: 3, Rate: 2}

func TestWorkloadsAreMadeFromTheSeedAlone(t *testing.T) {
	for _, name := range Names() {
		a, b := mustNew(t, name, someOptions), mustNew(t, name, someOptions)
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s: the same seed gave two workloads", name)
		}
		other := someOptions
		other.Seed++
		if reflect.DeepEqual(a, mustNew(t, name, other)) {
			t.Errorf("%s: another seed gave the same workload", name)
		}
	}
}

func TestClientsDoNotDependOnTheirNumber(t *testing.T) {
	for _, name := range []string{"disjoint", "shared", "ragged", "copy", "turns", "poisson"} {
		few := someOptions
		few.Clients = 3
		a, b := mustNew(t, name, few), mustNew(t, name, someOptions)
		if !reflect.DeepEqual(a.Clients, b.Clients[:3]) {
			t.Errorf("%s: three of eight clients differ from three alone", name)
		}
	}
}

func TestShapes(t *testing.T) {
	t.Run("single has one client", func(t *testing.T) {
		if n := mustNew(t, "single", someOptions).Requests(); n != 1 {
			t.Errorf("got %d requests", n)
		}
	})
	t.Run("disjoint shares no first word", func(t *testing.T) {
		seen := map[string]bool{}
		for _, c := range mustNew(t, "disjoint", someOptions).Clients {
			word := firstWord(c[0].Messages[0].Content)
			if seen[word] {
				t.Errorf("two prompts begin with %q", word)
			}
			seen[word] = true
		}
	})
	t.Run("shared has one system prompt and different questions", func(t *testing.T) {
		clients := mustNew(t, "shared", someOptions).Clients
		for _, c := range clients[1:] {
			if c[0].Messages[0] != clients[0][0].Messages[0] {
				t.Error("system prompts differ")
			}
			if c[0].Messages[1] == clients[0][0].Messages[1] {
				t.Error("questions are the same")
			}
		}
	})
	t.Run("ragged keeps a quarter to the end", func(t *testing.T) {
		w := mustNew(t, "ragged", someOptions)
		long := w.Keep(func(r Request) bool { return r.MaxTokens == someOptions.Tokens })
		if long.Requests() != 2 || w.Requests() != 8 {
			t.Errorf("got %d of %d", long.Requests(), w.Requests())
		}
		if !reflect.DeepEqual(long.Clients[1], w.Clients[4]) {
			t.Error("the second long request is not client 4's")
		}
	})
}

func TestNoTwoWorkloadsShareAPrompt(t *testing.T) {
	seen := map[string]string{}
	for _, name := range Names() {
		for _, c := range mustNew(t, name, someOptions).Clients {
			// The first words are what a server could find in its cache.
			m := c[0].Messages[0].Content
			begin := m[:min(len(m), 120)]
			if other, ok := seen[begin]; ok && other != name {
				t.Errorf("%s and %s have a prompt in common: %q", name, other, begin)
			}
			seen[begin] = name
		}
	}
}

func TestTurnsFollow(t *testing.T) {
	for _, c := range mustNew(t, "turns", someOptions).Clients {
		if len(c) != someOptions.Turns {
			t.Fatalf("%d turns", len(c))
		}
		for k, r := range c {
			if r.Follows != (k > 0) || len(r.Messages) != 1 || r.Messages[0].Role != "user" {
				t.Errorf("turn %d: %+v", k, r)
			}
		}
		if first, second := len(c[0].Messages[0].Content), len(c[1].Messages[0].Content); second > first/2 {
			t.Errorf("later turns are not shorter: %d, %d characters", first, second)
		}
	}
}

func TestTurnsShareASystemPrompt(t *testing.T) {
	o := someOptions
	o.System = 30
	plain, system := mustNew(t, "turns", someOptions), mustNew(t, "turns", o)
	first := system.Clients[0][0].Messages[0]
	if first.Role != "system" || len(strings.Fields(first.Content)) != o.System {
		t.Errorf("a system prompt of %d words: %+v", o.System, first)
	}
	for i, c := range system.Clients {
		if c[0].Messages[0] != first {
			t.Errorf("client %d has a system prompt of its own", i)
		}
		c[0].Messages = c[0].Messages[1:] // all else stays as it is without
		if !reflect.DeepEqual(c, plain.Clients[i]) {
			t.Errorf("client %d asks for something else: %+v, not %+v", i, c, plain.Clients[i])
		}
	}
}

func TestArrivals(t *testing.T) {
	o := someOptions
	o.Clients, o.Words, o.Rate = 4000, 1, 50
	var last time.Duration
	var gaps []float64
	for i, c := range mustNew(t, "poisson", o).Clients {
		if c[0].At <= last {
			t.Fatalf("request %d is due at %s, the one before it at %s", i, c[0].At, last)
		}
		gaps = append(gaps, (c[0].At - last).Seconds())
		last = c[0].At
	}
	// Of an exponential distribution the mean is 1/rate, the median that times ln 2,
	// and e⁻³ of it lies above three means.
	mean := last.Seconds() / float64(len(gaps))
	if math.Abs(mean*o.Rate-1) > 0.08 {
		t.Errorf("mean gap %.4f s at %g a second", mean, o.Rate)
	}
	if median := Median(gaps); math.Abs(median*o.Rate/math.Ln2-1) > 0.08 {
		t.Errorf("median gap %.4f s", median)
	}
	long := 0
	for _, g := range gaps {
		if g > 3/o.Rate {
			long++
		}
	}
	if share := float64(long) / float64(len(gaps)); math.Abs(share-math.Exp(-3)) > 0.015 {
		t.Errorf("%.3f of the gaps are longer than three means", share)
	}
}

func TestProseHasItsWords(t *testing.T) {
	for n := range 25 {
		if got := len(strings.Fields(prose(rng(1, n), n))); got != n {
			t.Errorf("asked for %d words, got %d", n, got)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	tests := []struct {
		name, workload, want string
		change               func(*Options)
	}{
		{"unknown workload", "nothing", `"nothing"`, func(*Options) {}},
		{"no clients", "disjoint", "clients", func(o *Options) { o.Clients = 0 }},
		{"too many clients", "disjoint", "clients", func(o *Options) { o.Clients = MaxClients + 1 }},
		{"no words", "shared", "words", func(o *Options) { o.Words = 0 }},
		{"too many words", "shared", "words", func(o *Options) { o.Words = MaxWords + 1 }},
		{"no tokens", "single", "tokens", func(o *Options) { o.Tokens = -1 }},
		{"too many tokens", "single", "tokens", func(o *Options) { o.Tokens = MaxTokens + 1 }},
		{"no turns", "turns", "turns", func(o *Options) { o.Turns = 0 }},
		{"a negative system prompt", "turns", "system-words", func(o *Options) { o.System = -1 }},
		{"too long a system prompt", "turns", "system-words", func(o *Options) { o.System = MaxWords + 1 }},
		{"no rate", "poisson", "rate", func(o *Options) { o.Rate = 0 }},
		{"a rate that is no number", "poisson", "rate", func(o *Options) { o.Rate = math.NaN() }},
		{"too long", "poisson", "longer than 1h", func(o *Options) { o.Rate = 0.001 }},
		{"all are named", "poisson", "words: 0 is not in 1…100000\ntokens: 0 is not in 1…100000\nrate", func(o *Options) { o.Words, o.Tokens, o.Rate = 0, 0, -1 }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := someOptions
			test.change(&o)
			if _, err := New(test.workload, o); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error that names %s", err, test.want)
			}
		})
	}
	t.Run("the smallest are taken", func(t *testing.T) {
		for _, name := range Names() {
			mustNew(t, name, Options{Clients: 1, Words: 1, Tokens: 1, Turns: 1, Rate: 1})
		}
	})
}

func mustNew(t *testing.T, name string, o Options) Workload {
	t.Helper()
	w, err := New(name, o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}
