package presence

import (
	"sync/atomic"

	"github.com/go-chi/chi/v5"

	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/internal/guard"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/loglimit"
	"example.com/presence/pkg/presence/internal/refusal"
	"example.com/presence/pkg/presence/internal/stream"
)

// Server counts the users and connections of its rooms and delivers their messages. It is an
// [http.Handler] for any router, at the root or under a prefix. Its methods are safe for concurrent
// use. [Server.Shutdown] stops it.
type Server struct {
	config   Config
	warn     *loglimit.Limiter
	refusals *refusal.Recorder
	// authFailures holds the totals of failed authentications by their index in auth.Reasons.
	authFailures []atomic.Uint64
	router       chi.Router
	guard        *guard.Guard
	origins      origins
	hosts        hosts
	proxies      proxies
	limits       limits
	pages        pageCache
	streams      *stream.Streams
	hub          *hub.Hub
}

// Stats returns the current statistics of this node. It is safe for concurrent use.
func (s *Server) Stats() Stats {
	all := Stats{
		Stats:              s.hub.Stats(),
		Streams:            s.streams.Stats(),
		IdleConnections:    s.guard.Stats().Idle,
		AcceptFailures:     s.guard.Stats().AcceptFailures,
		Refusals:           map[string]uint64{},
		AuthFailures:       map[string]uint64{},
		Draining:           s.hub.Draining(),
		MaxConnections:     s.config.MaxConnections,
		MaxIdleConnections: s.config.MaxIdleConnections,
		MaxRooms:           s.config.MaxRooms,
		MaxUnsentTotal:     s.config.MaxUnsentTotal,
	}
	if s.config.Backplane == nil {
		all.MaxLogBytes = s.config.HistoryBytes
	}
	for _, why := range refusal.Causes() {
		all.Refusals[string(why)] = s.refusals.Count(why)
	}
	for i, why := range auth.Reasons {
		all.AuthFailures[why] = s.authFailures[i].Load()
	}
	return all
}
