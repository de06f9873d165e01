// Package loglimit limits how often a warning is logged, because clients can cause some conditions
// at any rate and would otherwise flood the log. It imports no other package of this module.
package loglimit

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// interval is the minimum time between two log lines with the same message.
	interval = time.Minute
	// maxMessages is the maximum number of messages whose last log time is remembered.
	maxMessages = 256
)

// Limiter logs each message at most once per minute. Its methods are safe for concurrent use.
type Limiter struct {
	log *slog.Logger

	mu   sync.Mutex // guards last
	last map[string]time.Time
}

// New returns a Limiter that logs to log.
func New(log *slog.Logger) *Limiter {
	return &Limiter{log: log, last: map[string]time.Time{}}
}

// Warn logs the message and its arguments like [slog.Logger.WarnContext], unless it logged the same
// message less than a minute ago. Variable values belong in args, because each distinct message is
// remembered separately. If 256 messages were logged within the last minute, all other messages
// count as one message.
func (l *Limiter) Warn(ctx context.Context, message string, args ...any) {
	if l.due(message, time.Now()) {
		l.log.WarnContext(ctx, message, args...)
	}
}

// due reports whether the message was last logged at least one interval before now, or never. If
// so, due records now as the time of its last log line.
func (l *Limiter) due(message string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.last[message]; !known && len(l.last) >= maxMessages {
		for m, last := range l.last {
			if now.Sub(last) >= interval {
				delete(l.last, m)
			}
		}
		if len(l.last) >= maxMessages {
			message = ""
		}
	}
	if last, known := l.last[message]; known && now.Sub(last) < interval {
		return false
	}
	l.last[message] = now
	return true
}
