package main

import (
	"bytes"
	"io"
	stdlog "log"
	"log/slog"
	"sync"
	"time"
)

// errorLog is the log of net/http. While there is no descriptor left, it has a
// line for every client that it cannot accept; one a minute is told.
func errorLog(log *slog.Logger) *stdlog.Logger {
	lines := slog.NewLogLogger(log.Handler(), slog.LevelWarn).Writer()
	return stdlog.New(&sparing{w: lines, prefix: []byte("http: Accept error")}, "", 0)
}

// sparing writes of the lines with that prefix one a minute.
type sparing struct {
	w      io.Writer
	prefix []byte

	mu   sync.Mutex // guards last
	last time.Time
}

func (s *sparing) Write(line []byte) (int, error) {
	if bytes.HasPrefix(line, s.prefix) && !s.due() {
		return len(line), nil
	}
	return s.w.Write(line)
}

func (s *sparing) due() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.last) < time.Minute {
		return false
	}
	s.last = now
	return true
}
