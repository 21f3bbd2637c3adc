package worker

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

const (
	maxLine  = 16 << 10 // bytes of a child's line that are read
	maxPlain = 200      // lines of a child that are not its log's, see relay
	maxWords = 300      // bytes of the line that a reason quotes
)

// relay carries a child's output to the gateway's log. The child logs JSON lines,
// which keep their level and attributes; whatever else comes (a failed assertion, a
// panic, a trace) is a warning, up to a number of lines, and the line that tells most
// of why a child ends is kept as its last words.
type relay struct {
	log  *slog.Logger
	done chan struct{} // closed at the output's end

	mu    sync.Mutex
	words string
	rank  int // of words, see alarms
	count int // of lines that are not records
}

func newRelay(log *slog.Logger) *relay { return &relay{log: log, done: make(chan struct{})} }

func (r *relay) run(in io.Reader) {
	defer close(r.done)
	lines := bufio.NewReaderSize(in, maxLine)
	for {
		line, more, err := lines.ReadLine()
		if text := strings.ToValidUTF8(strings.TrimSpace(string(line)), "?"); text != "" {
			r.line(text)
		}
		for more && err == nil { // what is too long is cut off
			_, more, err = lines.ReadLine()
		}
		if err != nil {
			return
		}
	}
}

func (r *relay) line(text string) {
	if record, ok := parseRecord(text); ok {
		ctx := context.Background()
		r.log.LogAttrs(ctx, record.level, record.msg, record.attrs...)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if rank := alarm(text); rank > r.rank {
		r.words, r.rank = text[:min(len(text), maxWords)], rank
	}
	switch r.count++; {
	case r.count < maxPlain:
		r.log.Warn("engine process", "line", text)
	case r.count == maxPlain:
		r.log.Warn("engine process: its further lines are left out")
	}
}

type record struct {
	level slog.Level
	msg   string
	attrs []slog.Attr
}

// parseRecord reads a line that slog's JSON handler wrote.
func parseRecord(text string) (rec record, ok bool) {
	if !strings.HasPrefix(text, "{") {
		return rec, false
	}
	var fields map[string]any
	if json.Unmarshal([]byte(text), &fields) != nil {
		return rec, false
	}
	level, isLevel := fields[slog.LevelKey].(string)
	msg, isMsg := fields[slog.MessageKey].(string)
	if !isLevel || !isMsg || rec.level.UnmarshalText([]byte(level)) != nil {
		return rec, false
	}
	rec.msg = msg
	for k, v := range fields {
		if k != slog.LevelKey && k != slog.MessageKey && k != slog.TimeKey {
			rec.attrs = append(rec.attrs, slog.Any(k, v))
		}
	}
	slices.SortFunc(rec.attrs, func(a, b slog.Attr) int { return cmp.Compare(a.Key, b.Key) })
	return rec, true
}

// alarms are the words of a line that says why a process ends, the most telling last:
// a failed assertion is followed by the trace of the signal that it raises.
var alarms = []string{"error", "sig", "fatal", "panic", "assert"}

// alarm ranks a line by what it says of an end; 0 is nothing.
func alarm(line string) (rank int) {
	line = strings.ToLower(line)
	for i, word := range alarms {
		if strings.Contains(line, word) {
			rank = i + 1
		}
	}
	return rank
}

// lastWords is the line that tells most of why the child ended, "" if none does.
func (r *relay) lastWords() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.words
}
