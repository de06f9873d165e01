package presence

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/internal/redact"
	"example.com/presence/pkg/presence/internal/refusal"
)

// facts collects the facts about a request that its log lines need. Only the goroutine of the
// request uses them.
type facts struct {
	began time.Time
	id    string // request id; empty until requestID has set it
	user  string // id of the user; empty until a key has verified the token
	room  string // name of the room; empty until authorized

	refused *problem // nil unless the request was refused
}

// factsKey is the context key of a request's *facts.
type factsKey struct{}

// withFacts returns the request with its facts in the context.
func withFacts(r *http.Request) (*http.Request, *facts) {
	f := &facts{began: time.Now()}
	return r.WithContext(context.WithValue(r.Context(), factsKey{}, f)), f
}

// factsOf returns the facts of a request. They are never nil.
func factsOf(r *http.Request) *facts {
	if f, ok := r.Context().Value(factsKey{}).(*facts); ok {
		return f
	}
	return &facts{began: time.Now()}
}

// maxRequestID is the maximum length of a request id from the client, in bytes.
const maxRequestID = 128

// requestID returns the id of the request: its X-Request-Id header if it has 1 to 128 characters of
// those below, else 26 random characters.
func (f *facts) requestID(r *http.Request) string {
	const characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=:@"
	if f.id == "" {
		f.id = r.Header.Get("X-Request-Id")
		if f.id == "" || len(f.id) > maxRequestID || strings.Trim(f.id, characters) != "" {
			f.id = rand.Text()
		}
	}
	return f.id
}

// lineOf returns the attributes of a log line about the request. It omits user and room while they
// are unknown. The path is the one after the mount point of an http.StripPrefix. No attribute
// contains the query, because a token can be there.
func (s *Server) lineOf(r *http.Request) []any {
	f := factsOf(r)
	line := []any{"method", redact.Text(r.Method), "path", redact.Text(r.URL.Path)}
	return append(line, s.originOf(r, f)...)
}

// originOf returns the attributes of a log line that identify the request and its client.
func (s *Server) originOf(r *http.Request, f *facts) (line []any) {
	if f.room != "" {
		line = append(line, "room", redact.Text(f.room))
	}
	if f.user != "" {
		line = append(line, "user", redact.Text(f.user))
	}
	return append(line, "client_address", redact.Text(s.proxies.client(r)), "request_id", redact.Text(f.requestID(r)))
}

// logAction logs an action of an admin in the room of the request. args are its first attributes.
func (s *Server) logAction(r *http.Request, action string, args ...any) {
	f := factsOf(r)
	s.config.Logger.InfoContext(r.Context(), action, append(args, "room", redact.Text(f.room), "admin", redact.Text(f.user),
		"client_address", redact.Text(s.proxies.client(r)), "request_id", redact.Text(f.requestID(r)))...)
}

// logAccess logs a request that was not a stream, at level debug.
func (s *Server) logAccess(r *http.Request, f *facts, status int) {
	if s.config.Logger.Enabled(r.Context(), slog.LevelDebug) {
		line := append(s.lineOf(r), "status", status, "duration", time.Since(f.began))
		if p := f.refused; p != nil {
			line = append(line, "cause", string(p.cause), "detail", p.logged())
		}
		s.config.Logger.DebugContext(r.Context(), "request", line...)
	}
}

// record counts and logs a request or stream that ended with err. p is the problem of err. An error
// after the client has canceled its request is neither a refusal nor an error of the server.
func (s *Server) record(r *http.Request, p *problem, err error) {
	if p.cause == refusal.Internal {
		if r.Context().Err() != nil {
			return
		}
		s.config.Logger.ErrorContext(r.Context(), "request failed", append([]any{"err", err}, s.lineOf(r)...)...)
	}
	if p.cause != "" {
		s.refuse(r, p)
	}
}

// refuse counts and logs a refused request or stream.
func (s *Server) refuse(r *http.Request, p *problem) {
	if i := slices.Index(auth.Reasons, p.reason); i >= 0 {
		s.authFailures[i].Add(1)
	}
	factsOf(r).refused = p
	reason := "" // the causes without a token have only one
	if p.cause == refusal.Token {
		reason = p.reason
	}
	s.refusals.Add(r.Context(), p.cause, reason, func() []any {
		return append([]any{"detail", p.logged(), "status", p.status}, s.lineOf(r)...)
	})
}
