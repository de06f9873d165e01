package presence

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

// policy lets a page load what this server serves, and nothing else run in it
// (Content Security Policy Level 3).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// file is one file of Config.Web.
type file struct {
	name    string
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
		page["/"+name] = &file{name, content, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
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
	whole := r.Clone(r.Context())
	for _, condition := range []string{"Range", "If-Range", "If-Match", "If-Unmodified-Since"} {
		whole.Header.Del(condition) // they may be ignored, and their errors are no problem documents
	}
	http.ServeContent(w, whole, f.name, time.Time{}, bytes.NewReader(f.content))
	return nil
}
