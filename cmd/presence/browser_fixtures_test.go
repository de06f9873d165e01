package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
)

// fixtures starts a site that has the pages in web/fixtures at /fixtures/, and passes every other
// request to the server at addr. It returns the origin of the site. The pages share it with the
// server, so they can import /presence.js and use the session cookie.
func fixtures(t *testing.T, addr string) string {
	t.Helper()
	transport := &http.Transport{}
	mux := http.NewServeMux()
	mux.Handle("/fixtures/", http.StripPrefix("/fixtures/", http.FileServer(http.Dir("../../web/fixtures"))))
	mux.Handle("/", &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addr})
			r.Out.Host = r.In.Host // the server compares it with the origin of the page
		},
		Transport:     transport,
		FlushInterval: -1,                         // flush each event of a stream
		ErrorLog:      log.New(io.Discard, "", 0), // the browser aborts requests when a tab closes
	})
	site := httptest.NewServer(mux)
	t.Cleanup(func() {
		site.CloseClientConnections() // an open stream would block Close
		site.Close()
		transport.CloseIdleConnections()
	})
	return site.URL
}
