package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"llamero/configs"
	"llamero/engine"
	"llamero/engine/llama"
	"llamero/engine/worker"
	"llamero/models"
	"llamero/scheduler"
	"llamero/scheduler/loop"
	"llamero/server"
	"llamero/server/telemetry"
	"llamero/tokenizer/template"
)

// serve runs the gateway until ctx ends, then drains it. What can be known to be
// wrong is found before the model is loaded.
func serve(ctx context.Context, c configs.Config, stderr io.Writer) error {
	log := newLogger(c.Log, stderr)
	slog.SetDefault(log) // libllama's own lines come through it
	lib, err := models.ResolveLibs(c.Engine.Lib, c.Engine.Backend)
	if err != nil {
		return err
	}
	path, err := models.Resolve(c.Model.Path)
	if err != nil {
		return err
	}
	if draft := c.Spec.Draft(); draft != "" {
		if err := models.CheckGGUF(draft); err != nil {
			return fmt.Errorf("%w (--draft-model)", err)
		}
	}
	if t, ok := models.Tuned(path); ok {
		log.Info("the default model is served as a type that this machine computes faster; --model \"$(llamero models path --fetched)\" serves it as it was fetched",
			"type", models.TunedType(), "fetched", t.SourceType, "prefill", fmt.Sprintf("×%.2f", t.Prefill), "decode", fmt.Sprintf("×%.2f", t.Decode),
			"perplexity", fmt.Sprintf("%+.2f%%", 100*t.Perplexity), "kl", t.KL)
	}
	var templateSource string
	if c.Model.TemplateFile != "" {
		if templateSource, err = readTemplate(c.Model.TemplateFile); err != nil {
			return err
		}
	}
	ln, err := listen(c.Server.Listen, "--listen")
	if err != nil {
		return err
	}
	defer ln.Close()
	watch, stop, err := observe(ctx, c.Telemetry, ln.Addr().String(), log)
	if err != nil {
		return err
	}
	defer stop()

	// Loading is native code that no context reaches: a signal meanwhile ends the
	// process without waiting for it.
	type loaded struct {
		m   *model
		err error
	}
	done := make(chan loaded, 1)
	go func() {
		m, err := openModel(c, lib, path, templateSource, watch, log)
		done <- loaded{m, err}
	}()
	var m *model
	select {
	case <-ctx.Done():
		return nil
	case l := <-done:
		if l.err != nil {
			return l.err
		}
		m = l.m
	}
	defer m.close()
	return m.serve(ctx, c, ln, watch, log)
}

// model is a served model with the native things behind it.
type model struct {
	server.Model
	tokenizer worker.Tokenizer
	group     *loop.Group
	engines   []worker.Engine // until they are the group's
	pages     *pages
}

// openModel loads a model: tokenizer, template, engines, loops, in the order of what
// they cost.
func openModel(c configs.Config, lib, path, templateSource string, watch *telemetry.Telemetry, log *slog.Logger) (_ *model, err error) {
	m := &model{}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	start := time.Now()
	apart := c.Engine.Process == "worker"
	if m.tokenizer, err = openTokenizer(apart, lib, path, log); err != nil {
		return nil, err
	}
	source := m.tokenizer.Info().ChatTemplate
	if templateSource != "" {
		source = templateSource
	} else if source == "" {
		log.Warn("the model has no chat template; ChatML is used", "model", path)
	}
	chat, err := template.ForVocab(source, m.tokenizer.Vocab())
	if err != nil {
		return nil, fmt.Errorf("%w; --chat-template-file names another", err)
	}
	if m.pages, err = openPages(c.Cache, apart); err != nil {
		return nil, err
	}
	m.engines, err = openEngines(c.Engine, m.pages.slab, log, llama.Options{
		Lib: lib, Model: path, Draft: c.Spec.Draft(), Layout: layout(c.Engine.Layout),
		Slots: c.Engine.Slots, SlotTokens: c.Engine.Context, KVBudget: int64(c.Engine.KVMemory),
		GPULayers: c.Engine.GPULayers, TypeK: c.Engine.TypeK, TypeV: c.Engine.TypeV,
		Threads: c.Engine.Threads, PassTokens: c.Engine.BatchTokens,
		PageTokens: c.Cache.PageTokens,
	})
	if err != nil {
		return nil, err
	}
	first := m.engines[0]
	if err := m.pages.attach(c, first, path, watch, log); err != nil {
		return nil, err
	}
	observer, gauges := watch.Model(alias(c.Model))
	guess := scheduler.GuessGain
	if c.Spec.Mode == "off" {
		guess = 0
	}
	var engines []engine.Engine
	for _, e := range m.engines {
		engines = append(engines, e)
	}
	m.engines = nil
	m.group, err = loop.NewGroup(engines, loop.Options{
		Guess: guess, DraftOnly: c.Spec.Mode == "draft", TargetITL: c.Scheduler.TargetITL, Queue: c.Scheduler.Queue, QueueWait: c.Scheduler.QueueTimeout, Log: log,
		Observer: observer, Pages: m.pages.Pages,
	})
	if err != nil {
		return nil, err
	}
	gauges(m.group)
	m.Model = server.Model{
		Alias: alias(c.Model), Tokenizer: m.tokenizer, Template: server.FromTemplate(chat), Loop: server.FromLoop(m.group),
		Created: time.Now(), MaxTokens: c.Scheduler.MaxTokens,
	}
	limits := first.Limits()
	log.Info("model loaded", "model", m.Alias, "file", path, "what", first.Info().Description, "libraries", lib,
		"layout", limits.Layout.String(), "slots", limits.Slots, "context", limits.SlotTokens,
		"kv", configs.Bytes(int64(limits.PoolTokens)*int64(limits.TokenBytes)>>20<<20).String(),
		"pages", limits.Pages, "page_tokens", limits.PageTokens,
		"draft", c.Spec.Draft(), "threads", c.Engine.Threads, "process", c.Engine.Process, "workers", len(engines), "offload", first.Info().Offload, "took", time.Since(start).Round(time.Millisecond).String())
	return m, nil
}

// close ends the loops before it frees what they use.
func (m *model) close() {
	closeEngines(m.engines)
	if m.group != nil {
		_ = m.group.Close() // closes its engines
	}
	if m.pages != nil {
		_ = m.pages.close()
	}
	if m.tokenizer != nil {
		_ = m.tokenizer.Close()
	}
}

// serve answers requests until ctx ends, then gives running ones the drain time.
func (m *model) serve(ctx context.Context, c configs.Config, ln net.Listener, watch *telemetry.Telemetry, log *slog.Logger) error {
	keys := make([]server.Key, 0, len(c.Server.APIKeys))
	for _, k := range c.Server.APIKeys {
		keys = append(keys, server.Key{Name: k.Name, Secret: k.Secret.Reveal()})
	}
	var page http.Handler
	if c.Telemetry.Metrics {
		page = watch.Handler()
	}
	srv, err := server.New(server.Options{
		Models: []server.Model{m.Model}, Keys: keys, Open: c.Server.AllowOpen,
		BodyLimit: int(c.Server.BodyLimit), WriteTimeout: c.Server.WriteTimeout, PingInterval: c.Server.KeepAlive,
		Logger: log, Observer: watch.Requests(), Content: watch.Content(), Metrics: page,
	})
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	log.Info("serving", "addr", ln.Addr().String(), "url", "http://"+ln.Addr().String()+"/v1", "model", m.Alias, "keys", len(keys))
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	log.Info("draining; a second signal ends at once", "timeout", c.Server.DrainTimeout.String())
	drain, cancel := context.WithTimeout(context.Background(), c.Server.DrainTimeout)
	defer cancel()
	switch err := srv.Shutdown(drain); {
	case errors.Is(err, context.DeadlineExceeded):
		log.Warn("the drain time was too short; what was left has been cut off")
	case err != nil:
		log.Error("shutdown", "error", err)
	}
	log.Info("stopped")
	return nil
}

func newLogger(c configs.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo // Validate allows no other words
	}
	opt := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}

// listen opens the port before anything slow is done.
func listen(addr, flag string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use: end what listens there, or choose another address with %s", addr, flag)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s may not be listened on: choose a port above 1023 with %s", addr, flag)
	case err != nil:
		return nil, fmt.Errorf("listen on %s (%s): %w", addr, flag, err)
	}
	return ln, nil
}

func readTemplate(name string) (string, error) {
	b, err := readLimited(name, template.MaxSource)
	if err != nil {
		return "", fmt.Errorf("the chat template (--chat-template-file): %w", err)
	}
	if len(b) == 0 || len(b) > template.MaxSource {
		return "", fmt.Errorf("the chat template %s (--chat-template-file) is empty or larger than %d bytes", name, template.MaxSource)
	}
	return string(b), nil
}

// readLimited reads a file as far as one byte beyond a limit.
func readLimited(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit+1))
}

func layout(name string) engine.Layout {
	switch name {
	case "split":
		return engine.Split
	case "unified":
		return engine.Unified
	}
	return 0 // the engine decides by the KV budget
}

// alias is the name that clients ask for.
func alias(m configs.Model) string {
	switch {
	case m.Alias != "":
		return m.Alias
	case m.Path == "" || m.Path == models.Default:
		return models.DefaultName()
	}
	base := filepath.Base(m.Path)
	return strings.TrimSuffix(base, filepath.Ext(base))
}
