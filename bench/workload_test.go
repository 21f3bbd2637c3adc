package bench

import (
	"reflect"
	"strings"
	"testing"
)

var someOptions = Options{Seed: 7, Clients: 8, Words: 50, Tokens: 64}

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
	for _, name := range []string{"disjoint", "shared", "ragged"} {
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
			mustNew(t, name, Options{Clients: 1, Words: 1, Tokens: 1})
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
