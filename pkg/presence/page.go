package presence

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// policy lets a page load what this server serves, and nothing else run in it
// (Content Security Policy Level 3).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// file is one file of Config.Web.
type file struct {
	kind    string // media type
	content []byte
	etag    string
}

// readPage reads the files of web, by the path at which each is served.
func readPage(web fs.FS) (map[string]*file, error) {
	page := map[string]*file{}
	if web == nil {
		return page, nil
	}
	err := fs.WalkDir(web, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if strings.ContainsAny(name, "{}*") {
			return fmt.Errorf("%s: the router has a meaning of its own for {, } and *", name)
		}
		content, err := fs.ReadFile(web, name)
		sum := sha256.Sum256(content)
		kind := cmp.Or(mime.TypeByExtension(path.Ext(name)), http.DetectContentType(content))
		page["/"+name] = &file{kind, content, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("config: Web: %w", err)
	}
	if index := page["/index.html"]; index != nil {
		page["/"] = index
	}
	return page, nil
}

func (f *file) get(w http.ResponseWriter, r *http.Request) error {
	// The page's links are relative: at /presence they would lead beside it.
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil && routePath(r) == "/" && !strings.HasSuffix(u.Path, "/") {
		to := url.URL{Path: "./" + path.Base(u.Path) + "/", RawQuery: u.RawQuery}
		w.Header().Set("Location", to.String())
		w.WriteHeader(http.StatusPermanentRedirect)
		return nil
	}
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.etag)
	if matches(r.Header.Values("If-None-Match"), f.etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", f.kind)
	h.Set("Content-Length", strconv.Itoa(len(f.content)))
	if r.Method != http.MethodHead {
		w.Write(f.content) // not by http.ServeContent, which copies 32 KiB for each request
	}
	return nil
}

// matches reports whether If-None-Match names the entity tag (RFC 9110 section
// 13.1.2, with the weak comparison of section 8.8.3.2). Our tags hold no comma.
func matches(fields []string, etag string) bool {
	for tag := range strings.SplitSeq(strings.Join(fields, ","), ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
			return true
		}
	}
	return false
}
