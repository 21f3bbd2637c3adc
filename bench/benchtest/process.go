package benchtest

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/spf13/pflag"
)

// Environment of a process that stands in for a server.
const (
	// EnvTwist is Server.Twist of the one that stands in for llama-server.
	EnvTwist = "BENCHTEST_TWIST"
	// EnvStarted names a file that gets the address once the server listens.
	EnvStarted = "BENCHTEST_STARTED"
	// EnvDie makes the server end at the request of this number, counted from 1.
	EnvDie = "BENCHTEST_DIE"
	// EnvStep is Server.Step, 2ms without.
	EnvStep = "BENCHTEST_STEP"
	// EnvKeeps is Server.Keeps.
	EnvKeeps = "BENCHTEST_KEEPS"
)

// Main stands in for a server if the arguments are those that start one or ask it
// for its version, and ends the process; else it returns.
func Main(args []string) {
	if len(args) == 0 {
		return
	}
	switch args[0] {
	case "version", "--version":
		fmt.Println("fake, version 1")
		os.Exit(0)
	case "serve":
		fmt.Println(serve(args[1:]))
		os.Exit(1)
	case "--host":
		fmt.Println(serve(args))
		os.Exit(1)
	}
}

// serve takes Llamero's flags and llama-server's; it returns why it ended.
func serve(args []string) error {
	fs := pflag.NewFlagSet("fake", pflag.ContinueOnError)
	fs.ParseErrorsAllowlist.UnknownFlags = true
	listen := fs.String("listen", "", "")
	slots := fs.Int("slots", 1, "")
	queue := fs.Int("queue", 1<<30, "")
	twist := 0
	if args[0] == "--host" { // llama-server's short flags have more than one letter
		flags := map[string]string{}
		for i := 0; i+1 < len(args); i += 2 {
			flags[args[i]] = args[i+1]
		}
		*listen = net.JoinHostPort(flags["--host"], flags["--port"])
		*slots, _ = strconv.Atoi(flags["-np"])
		twist, _ = strconv.Atoi(os.Getenv(EnvTwist))
	} else if err := fs.Parse(args); err != nil {
		return err
	}
	s := New(max(1, *slots))
	s.Queue, s.Twist, s.Keeps = *queue, twist, os.Getenv(EnvKeeps)
	s.Step, s.Word = 2*time.Millisecond, 100*time.Microsecond
	if step, err := time.ParseDuration(os.Getenv(EnvStep)); err == nil {
		s.Step = step
	}
	s.Log = slog.New(slog.NewJSONHandler(os.Stderr, nil))
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	if file := os.Getenv(EnvStarted); file != "" {
		if err := os.WriteFile(file, []byte(ln.Addr().String()), 0o600); err != nil {
			return err
		}
	}
	die, _ := strconv.Atoi(os.Getenv(EnvDie))
	return http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if die > 0 && r.URL.Path == "/v1/chat/completions" && len(s.Asked())+1 == die {
			fmt.Fprintln(os.Stderr, "out of luck")
			os.Exit(7)
		}
		s.ServeHTTP(w, r)
	}))
}
