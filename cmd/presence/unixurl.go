package main

import (
	"context"
	"net"
	"net/http"
	"strings"
)

// transport returns the base URL and the transport for a value of --url. For unix:PATH, these
// connect to the Unix socket over plain HTTP. For any other value, the transport is a copy of the
// default one. The transport keeps no idle connections.
func transport(value string) (base string, t *http.Transport) {
	t = http.DefaultTransport.(*http.Transport).Clone()
	t.DisableKeepAlives = true
	path, ok := strings.CutPrefix(value, unixPrefix)
	if !ok {
		return value, t
	}
	t.Proxy = nil
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return "http://localhost", t
}
