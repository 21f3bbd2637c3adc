package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"time"

	"llamero/configs"
	"llamero/models"
	"llamero/server/telemetry"
)

// flushLimit bounds the sending of what a collector has not got yet.
const flushLimit = 5 * time.Second

// observe sets up metrics and traces for a gateway that listens on addr. stop is for
// after its last request.
func observe(ctx context.Context, c configs.Telemetry, addr string, log *slog.Logger) (_ *telemetry.Telemetry, stop func(), err error) {
	warn := func(err error) { log.Warn("telemetry was not exported", "error", err) }
	t, err := telemetry.New(ctx, telemetry.Options{
		Version: version(), LlamaCPP: models.LlamaCPPVersion(), Address: addr,
		Metrics: c.Metrics || c.MetricsListen != "", Getenv: os.Getenv, Warn: warn,
	})
	if err != nil {
		return nil, nil, err
	}
	closePage := func() {}
	if c.MetricsListen != "" {
		if closePage, err = serveMetrics(c.MetricsListen, t.Handler(), log); err != nil {
			return nil, nil, err
		}
	}
	return t, func() {
		closePage()
		ctx, cancel := context.WithTimeout(context.Background(), flushLimit)
		defer cancel()
		if err := t.Shutdown(ctx); err != nil {
			warn(err)
		}
	}, nil
}

// serveMetrics serves /metrics alone, for a network that clients are not on.
func serveMetrics(addr string, page http.Handler, log *slog.Logger) (stop func(), err error) {
	ln, err := listen(addr, "--metrics-listen")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", page)
	srv := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	go func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the metrics listener failed", "error", err)
		}
	}()
	log.Info("serving metrics", "url", "http://"+ln.Addr().String()+"/metrics")
	return func() { _ = srv.Close() }, nil
}
