package main

import (
	"io"
	stdlog "log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// errorLog is the log of net/http. It has a line for every client that cannot
// be accepted, as no descriptor is left, and for every stranger who does not
// speak TLS or HTTP/2 well; of each of these kinds one a minute is told.
func errorLog(log *slog.Logger) *stdlog.Logger {
	lines := slog.NewLogLogger(log.Handler(), slog.LevelWarn).Writer()
	return stdlog.New(&sparing{w: lines, kinds: []string{"http: Accept error", "http: TLS handshake error", "http2: ", "timeout waiting for "}}, "", 0)
}

// sparing writes one line a minute of each kind, by what it begins with, and
// all others.
type sparing struct {
	w     io.Writer
	kinds []string

	mu   sync.Mutex           // guards last
	last map[string]time.Time // by kind
}

func (s *sparing) Write(line []byte) (int, error) {
	for _, kind := range s.kinds {
		if strings.HasPrefix(string(line), kind) && !s.due(kind) {
			return len(line), nil
		}
	}
	return s.w.Write(line)
}

func (s *sparing) due(kind string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if last, said := s.last[kind]; said && now.Sub(last) < time.Minute {
		return false
	}
	if s.last == nil {
		s.last = map[string]time.Time{}
	}
	s.last[kind] = now
	return true
}
