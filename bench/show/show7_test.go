package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"llamero/bench/benchtest"
)

// show7Args start processes that remember, in a folder of the test, what they were
// asked.
func show7Args(t *testing.T, words string) []string {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("there is no redis-server (`make deps` brings it)")
		}
		t.Skip("there is no redis-server (`make deps` brings it)")
	}
	t.Setenv(benchtest.EnvKeeps, t.TempDir())
	return []string{"show7", "--llamero", os.Args[0], "--model", os.Args[0], "--words", words, "--rounds", "2", "--slots", "2"}
}

func TestShow7(t *testing.T) {
	out, err := output(t, show7Args(t, "3000")...)
	if err != nil {
		t.Errorf("failed: %v", err)
	}
	for _, pattern := range []string{
		`machine: .*cores`, `llamero: fake, version 1`, `(?i)redis-server: redis server v=`, `a prompt of 3000 words, 2 rounds`,
		`(?m)^\| cold, with Redis +\| +\S+ \(\S+\) \| +0…0 \| +\|$`,
		`(?m)^\| again, from memory .*\| +30\d\d…30\d\d \|`,
		`(?m)^second gateway, through Redis, over cold: 0\.0.* goal ≤ 0.1: met$`,
		`(?m)^restarted, through Redis, over cold: 0\.0.* goal ≤ 0.1: met$`,
		`(?m)^restarted, from the folder, over cold: 0\.0.* goal ≤ 0.1: met$`,
	} {
		if !regexp.MustCompile(pattern).MatchString(out) {
			t.Errorf("not printed: %s", pattern)
		}
	}
	if strings.Count(out, "llamero: fake") != 1 {
		t.Error("what is measured is not printed once")
	}
	if t.Failed() {
		t.Log(out)
	}
}

// A prompt that is known already is not cold: there is no table of such.
func TestShow7WantsColdPrompts(t *testing.T) {
	args := show7Args(t, "100")
	if _, err := output(t, args...); err != nil {
		t.Fatal(err)
	}
	if out, err := output(t, args...); err == nil || !strings.Contains(err.Error(), "cold, with Redis: 10") || strings.Contains(out, "| cold") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestShow7WrongFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--llamero= --peer " + os.Args[0]:                     "--llamero",
		"--redis-server /nonexistent --llamero " + os.Args[0]: "--redis-server",
	} {
		_, err := output(t, append([]string{"show7", "--model", os.Args[0]}, strings.Fields(args)...)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", args, err, want)
		}
	}
}
