package presence

import (
	"bytes"
	"cmp"
	"compress/gzip"
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

// file holds the content of a file in Config.Web, as plain and gzip bytes.
type file struct {
	policy  string // Config.ContentSecurityPolicy
	kind    string // media type
	script  bool   // whether it is JavaScript
	plain   coded
	gzipped *coded // nil if gzip does not make it smaller
}

// coded is the content of a file in one content coding. The entity tags are strong, so each coding
// needs its own (RFC 9110 section 8.8.1).
type coded struct {
	content []byte
	etag    string
}

// readPage reads the files of web and returns them by URL path. Each file is served with the
// policy. A non-nil error is a *ConfigError.
func readPage(web fs.FS, policy string) (map[string]*file, error) {
	page := map[string]*file{}
	if web == nil {
		return page, nil
	}
	zip, _ := gzip.NewWriterLevel(nil, gzip.BestCompression) // this level causes no error
	err := fs.WalkDir(web, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if strings.ContainsAny(name, "{}*") {
			return fmt.Errorf("invalid file name %s: {, } and * are reserved by the router", name)
		}
		content, err := fs.ReadFile(web, name)
		sum := sha256.Sum256(content)
		tag := base64.RawURLEncoding.EncodeToString(sum[:12])
		f := &file{
			policy: policy,
			kind:   cmp.Or(mime.TypeByExtension(path.Ext(name)), http.DetectContentType(content)),
			plain:  coded{content, `"` + tag + `"`},
			script: path.Ext(name) == ".js",
		}
		if zipped := compress(zip, content); len(zipped) < len(content) {
			f.gzipped = &coded{zipped, `"` + tag + `-gzip"`}
		}
		page["/"+name] = f
		return err
	})
	if err != nil {
		return nil, &ConfigError{Field: "Web", Reason: "cannot be served: " + err.Error(), cause: err}
	}
	if index := page["/index.html"]; index != nil {
		page["/"] = index
	}
	return page, nil
}

// compress returns the gzip encoding of content. It reuses zip, because a gzip.Writer allocates 800
// KB.
func compress(zip *gzip.Writer, content []byte) []byte {
	var b bytes.Buffer
	zip.Reset(&b)
	zip.Write(content) // writing to memory cannot fail
	zip.Close()
	return bytes.Clone(b.Bytes())
}

func (f *file) get(w http.ResponseWriter, r *http.Request) error {
	// The page's links are relative. Without the trailing slash, as in /presence, they would
	// resolve to paths outside the mount point, so redirect to the path with the slash.
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil && routePath(r) == "/" && !strings.HasSuffix(u.Path, "/") {
		to := url.URL{Path: "./" + path.Base(u.Path) + "/", RawQuery: u.RawQuery}
		w.Header().Set("Location", to.String())
		w.WriteHeader(http.StatusPermanentRedirect)
		return nil
	}
	h := w.Header()
	h.Set("Content-Security-Policy", f.policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	if f.script && h.Get("Access-Control-Allow-Origin") == "" {
		// A page of an origin that is not allowed can load the client, and the client names the
		// origin. If the browser refused the script, only its console would show a cause.
		h.Set("Access-Control-Allow-Origin", "*")
	}
	body := &f.plain
	if f.gzipped != nil {
		h.Add("Vary", "Accept-Encoding") // Add and not Set, because the CORS handler sets Vary: Origin
		if acceptsGzip(r.Header.Values("Accept-Encoding")) {
			body = f.gzipped
		}
	}
	h.Set("ETag", body.etag)
	if matches(r.Header.Values("If-None-Match"), body.etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if body == f.gzipped {
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Type", f.kind)
	h.Set("Content-Length", strconv.Itoa(len(body.content)))
	if r.Method != http.MethodHead {
		w.Write(body.content) // http.ServeContent would allocate a 32 KiB buffer per request
	}
	return nil
}

// acceptsGzip reports whether the Accept-Encoding fields allow gzip (RFC 9110 section 12.5.3), by
// name or by *, with a weight above zero.
func acceptsGzip(fields []string) bool {
	star := false
	for item := range strings.SplitSeq(strings.ToLower(strings.Join(fields, ",")), ",") {
		coding, weight, _ := strings.Cut(item, ";")
		weight = strings.TrimPrefix(strings.TrimSpace(weight), "q=")
		q, err := strconv.ParseFloat(cmp.Or(weight, "1"), 64)
		allowed := err == nil && q > 0
		switch strings.TrimSpace(coding) {
		case "gzip", "x-gzip": // section 8.4.1.3
			return allowed
		case "*":
			star = allowed
		}
	}
	return star
}

// matches reports whether the If-None-Match fields contain the entity tag (RFC 9110 section 13.1.2,
// with the weak comparison of section 8.8.3.2). The fields can be split at commas, because the tags
// of this server contain none.
func matches(fields []string, etag string) bool {
	for tag := range strings.SplitSeq(strings.Join(fields, ","), ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
			return true
		}
	}
	return false
}
