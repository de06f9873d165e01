package presence

import (
	"github.com/go-chi/chi/v5"

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
	router   chi.Router
	guard    *guard.Guard
	origins  origins
	proxies  proxies
	rates    *rates
	streams  *stream.Streams
	hub      *hub.Hub
}

// Stats returns the current statistics of this node. It is safe for concurrent use.
func (s *Server) Stats() Stats { return s.hub.Stats() }
