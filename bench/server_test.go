package bench

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"llamero/bench/benchtest"
)

// childMode makes the test binary a server to be started, or one that fails.
const childMode = "LLAMERO_BENCH_TEST_CHILD"

func TestMain(m *testing.M) {
	benchtest.Main(os.Args[1:])
	switch os.Getenv(childMode) {
	case "serve":
		ready := 0
		http.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
			if ready++; ready < 3 { // loading
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		fmt.Println(http.ListenAndServe(os.Args[1], nil))
		os.Exit(1)
	case "fail":
		fmt.Println("no such model")
		os.Exit(3)
	}
	os.Exit(m.Run())
}

func startChild(t *testing.T, ctx context.Context, mode string) (*Server, error) {
	t.Helper()
	t.Setenv(childMode, mode)
	t.Setenv("TMPDIR", t.TempDir())
	return StartServer(ctx, "child", os.Args[0], func(host, port string) []string {
		return []string{net.JoinHostPort(host, port)}
	}, "/readyz")
}

func TestServerLives(t *testing.T) {
	s, err := startChild(t, t.Context(), "serve")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(s.URL + "/readyz")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("ready, but GET gave %v, %v", resp, err)
	}
	if err == nil {
		resp.Body.Close()
	}
	if err := s.Died(0); err != nil {
		t.Errorf("it lives, but Died says %v", err)
	}
	s.Stop()
	s.Stop() // again does nothing
	if _, err := http.Get(s.URL + "/readyz"); err == nil {
		t.Error("it answers after Stop")
	}
	if left, _ := os.ReadDir(os.TempDir()); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestServerEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := startChild(t, ctx, "serve")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-s.done
	s.Stop()
}

func TestServerFailsToStart(t *testing.T) {
	_, err := startChild(t, t.Context(), "fail")
	if err == nil || !strings.Contains(err.Error(), "no such model") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v, want the exit status and what the program printed", err)
	}
	_, err = StartServer(t.Context(), "none", "/nonexistent", func(string, string) []string { return nil }, "/")
	if err == nil {
		t.Error("a program that does not exist was started")
	}
	if left, _ := os.ReadDir(os.TempDir()); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
