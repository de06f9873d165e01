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

// A page of any origin can load the scripts, and no other file. With an allowed origin, the headers
// name that origin.
func TestScriptsOfOtherOrigins(t *testing.T) {
	files := fstest.MapFS{"presence.js": {Data: []byte("export {}")}, "index.html": {Data: []byte("page")}}
	for _, c := range []struct {
		allowed, path, want string
	}{
		{"", "/presence.js", "*"},
		{"https://other.example", "/presence.js", "*"},
		{"https://app.example", "/presence.js", "https://app.example"},
		{"*", "/presence.js", "*"},
		{"", "/index.html", ""},
		{"https://app.example", "/index.html", "https://app.example"},
		{"", "/healthz", ""},
	} {
		config := presence.Config{Web: files}
		if c.allowed != "" {
			config.CORSOrigins = []string{c.allowed}
		}
		r := open(t, config).ask("GET", c.path, "", "", "Origin", "https://app.example")
		if got := r.Header.Get("Access-Control-Allow-Origin"); got != c.want {
			t.Errorf("%s with CORSOrigins %q: got Access-Control-Allow-Origin %q, want %q", c.path, c.allowed, got, c.want)
		}
	}
}

// The server sends a file as gzip if the request accepts it. The compressed and the plain form have
// different entity tags.
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
			t.Errorf("Accept-Encoding %q: got Content-Encoding %q, want gzip: %v", accept, coding, zipped)
		} else if zipped {
			zip, err := gzip.NewReader(strings.NewReader(got))
			if err != nil {
				t.Fatal(err)
			}
			unzipped, err := io.ReadAll(zip)
			if got = string(unzipped); err != nil || len(body) > len(text)/2 {
				t.Errorf("Accept-Encoding %q: got %d bytes, %v; want at most %d", accept, len(body), err, len(text)/2)
			}
		}
		if got != text || r.ContentLength != int64(len(body)) || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/javascript") {
			t.Errorf("Accept-Encoding %q: got %.20q, %v; want the file, its length and type", accept, got, r.Header)
		}
		if vary := strings.Join(r.Header.Values("Vary"), ", "); !strings.Contains(vary, "Accept-Encoding") || !strings.Contains(vary, "Origin") {
			t.Errorf("Accept-Encoding %q: got Vary %q, want Accept-Encoding and Origin", accept, vary)
		}
		etag := r.Header.Get("ETag")
		tags[fmt.Sprint(zipped, etag)] = true
		for _, tag := range []string{etag, "W/" + etag, `"other", ` + etag} {
			again := h.askBy(plain, "GET", "/presence.js", "", "", append(headers, "If-None-Match", tag)...)
			if again.StatusCode != http.StatusNotModified || again.Header.Get("ETag") != etag || !strings.Contains(strings.Join(again.Header.Values("Vary"), ","), "Accept-Encoding") ||
				again.Header.Get("Content-Encoding") != "" {
				t.Errorf("Accept-Encoding %q, If-None-Match %s: got %s, %v; want 304 with ETag and Vary", accept, tag, again.Status, again.Header)
			}
		}
		other := h.askBy(plain, "GET", "/presence.js", "", "", "Accept-Encoding", map[bool]string{true: "identity", false: "gzip"}[zipped], "If-None-Match", etag)
		if other.StatusCode != http.StatusOK || other.Header.Get("ETag") == etag {
			t.Errorf("Accept-Encoding %q: other form: got %s with ETag %s, want 200 with another ETag", accept, other.Status, other.Header.Get("ETag"))
		}
	}
	if len(tags) != 2 {
		t.Errorf("got entity tags %v, want one for each form", tags)
	}
	if r := h.askBy(plain, "GET", "/dot.png", "", "", "Accept-Encoding", "gzip"); r.Header.Get("Content-Encoding") != "" || r.Header.Get("Vary") == "Accept-Encoding" {
		t.Errorf("file that is no smaller as gzip: got %v, want no Content-Encoding and no Vary", r.Header)
	}
}

// Every response for a file has the policy, including a 304. No other response has it.
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
				t.Errorf("%s with its ETag: got %s, want 304", path, again.Status)
			}
		}
		if got := h.ask("GET", "/healthz", "", "").Header.Get("Content-Security-Policy"); got != "" {
			t.Errorf("/healthz: got the policy %q, want none", got)
		}
	}
}
