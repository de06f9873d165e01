package presence_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"example.com/presence/pkg/presence"
)

// Files come as gzip where that is accepted, each form with an entity tag of its
// own.
func TestCompressedFiles(t *testing.T) {
	text := strings.Repeat("presence ", 500)
	h := open(t, presence.Config{
		Web:         fstest.MapFS{"presence.js": {Data: []byte(text)}, "dot.png": {Data: []byte("\x89PNG\r\n\x1a\n")}},
		CORSOrigins: []string{"https://app.example"},
	})
	plain := &http.Transport{DisableCompression: true}
	t.Cleanup(plain.CloseIdleConnections)
	tags := map[string]bool{}
	for accept, zipped := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "x-gzip": true, "br, gzip;q=0.5": true, "gzip; q=0": false, "gzip;q=0.000, *": false,
		"*": true, "*;q=0": false, "identity": false, "br": false, "deflate, gzip;q=1.0, *;q=0.5": true, "gzip;q=x": false,
	} {
		headers := []string{"Origin", "https://app.example"}
		if accept != "" {
			headers = append(headers, "Accept-Encoding", accept)
		}
		r := h.askBy(plain, "GET", "/presence.js", "", "", headers...)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		got := string(body)
		if coding := r.Header.Get("Content-Encoding"); (coding == "gzip") != zipped || coding != "" && !zipped {
			t.Errorf("%q: Content-Encoding is %q", accept, coding)
		} else if zipped {
			zip, err := gzip.NewReader(strings.NewReader(got))
			if err != nil {
				t.Fatal(err)
			}
			unzipped, err := io.ReadAll(zip)
			if got = string(unzipped); err != nil || len(body) > len(text)/2 {
				t.Errorf("%q: %d bytes, %v", accept, len(body), err)
			}
		}
		if got != text || r.ContentLength != int64(len(body)) || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/javascript") {
			t.Errorf("%q: got %.20q, %v", accept, got, r.Header)
		}
		if vary := strings.Join(r.Header.Values("Vary"), ", "); !strings.Contains(vary, "Accept-Encoding") || !strings.Contains(vary, "Origin") {
			t.Errorf("%q: Vary is %q", accept, vary)
		}
		etag := r.Header.Get("ETag")
		tags[fmt.Sprint(zipped, etag)] = true
		for _, tag := range []string{etag, "W/" + etag, `"other", ` + etag} {
			again := h.askBy(plain, "GET", "/presence.js", "", "", append(headers, "If-None-Match", tag)...)
			if again.StatusCode != http.StatusNotModified || again.Header.Get("ETag") != etag || !strings.Contains(strings.Join(again.Header.Values("Vary"), ","), "Accept-Encoding") ||
				again.Header.Get("Content-Encoding") != "" {
				t.Errorf("%q: If-None-Match %s: got %s, %v", accept, tag, again.Status, again.Header)
			}
		}
		other := h.askBy(plain, "GET", "/presence.js", "", "", "Accept-Encoding", map[bool]string{true: "identity", false: "gzip"}[zipped], "If-None-Match", etag)
		if other.StatusCode != http.StatusOK || other.Header.Get("ETag") == etag {
			t.Errorf("%q: the other form is %s with ETag %s", accept, other.Status, other.Header.Get("ETag"))
		}
	}
	if len(tags) != 2 {
		t.Errorf("the entity tags are %v, want one for each form", tags)
	}
	if r := h.askBy(plain, "GET", "/dot.png", "", "", "Accept-Encoding", "gzip"); r.Header.Get("Content-Encoding") != "" || r.Header.Get("Vary") == "Accept-Encoding" {
		t.Errorf("a file that is no smaller as gzip: %v", r.Header)
	}
}

// The policy stands on each file, whether it is sent or known to the client, and on nothing else.
func TestContentSecurityPolicy(t *testing.T) {
	own := "default-src 'self'; img-src https://images.example"
	for policy, want := range map[string]string{"": presence.DefaultContentSecurityPolicy, own: own} {
		h := open(t, presence.Config{Web: fstest.MapFS{"index.html": {Data: []byte("<p>hi")}, "a.js": {}}, ContentSecurityPolicy: policy})
		for _, path := range []string{"/", "/index.html", "/a.js"} {
			first := h.ask("GET", path, "", "")
			again := h.ask("GET", path, "", "", "If-None-Match", first.Header.Get("ETag"))
			for _, r := range []*http.Response{first, again, h.ask("HEAD", path, "", "")} {
				if got := r.Header.Values("Content-Security-Policy"); !slices.Equal(got, []string{want}) {
					t.Errorf("%s %s: got the policies %q, want %q", r.Status, path, got, want)
				}
			}
			if again.StatusCode != http.StatusNotModified {
				t.Errorf("%s again: got %s", path, again.Status)
			}
		}
		if got := h.ask("GET", "/healthz", "", "").Header.Get("Content-Security-Policy"); got != "" {
			t.Errorf("/healthz has the policy %q", got)
		}
	}
}
