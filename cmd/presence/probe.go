package main

import (
	"net/http"
	"net/url"
	"time"
)

// The health check must work when every descriptor for clients is in use, with
// settings from flags, which another process cannot see, and in an image without
// a shell. So each server has a datagram socket in Linux's abstract namespace
// (unix(7)), which needs no file and, unlike a connection, no descriptor per
// question. Its name has the process id and the address:
//
//	@presence-health/1/[::]:8080
//
// A datagram of any content is answered with the status of GET /healthz.

// probePrefix begins the names of these sockets.
const probePrefix = "@presence-health/"

// probeTime is how long a health check may take, less than the 3 s of the image's
// HEALTHCHECK: the process itself takes a moment.
const probeTime = 3*time.Second - 200*time.Millisecond

// healthStatus is the status of GET /healthz.
func healthStatus(h http.Handler) int {
	answer := &statusOnly{header: http.Header{}, status: http.StatusOK}
	h.ServeHTTP(answer, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/healthz"}, RequestURI: "/healthz", Header: http.Header{}, Body: http.NoBody})
	return answer.status
}

// statusOnly is a [http.ResponseWriter] that keeps the status.
type statusOnly struct {
	header http.Header
	status int
}

func (w *statusOnly) Header() http.Header         { return w.header }
func (w *statusOnly) WriteHeader(status int)      { w.status = status }
func (w *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
