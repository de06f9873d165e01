package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The limits of an answer. A request takes at most requestTime, so that a server that never answers
// does not hold up the run.
const (
	maxHeader   = 64 << 10  // bytes of a response header
	maxBody     = 256 << 10 // bytes of a body; a page of GET presence with 100 members is smaller
	requestTime = 10 * time.Second
)

// newClient returns a client with a connection pool of its own. It follows no redirect. Without
// HTTP/2, each stream has its own connection; with it, all share one, as in a browser.
func newClient(c Config) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: c.RootCAs}
	t.MaxResponseHeaderBytes = maxHeader
	t.DisableCompression = true // each request sets Accept-Encoding itself
	if c.Connect != "" {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: requestTime}).DialContext(ctx, network, c.Connect)
		}
	}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// request returns a request. path is relative to base, and may have a query. headers are pairs of a
// name and a value.
func request(ctx context.Context, base *url.URL, method, path, body string, headers ...string) *http.Request {
	relative, query, _ := strings.Cut(path, "?")
	u := base.JoinPath(relative)
	u.RawQuery = query
	req, err := http.NewRequestWithContext(ctx, method, u.String(), strings.NewReader(body))
	if err != nil {
		panic(err) // base is valid, and all methods are constants
	}
	req.Header.Set("User-Agent", "presence-doctor")
	req.Header.Set("Accept-Encoding", "identity")
	if body == "" {
		req.Body, req.ContentLength = http.NoBody, 0
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	for pair := range slices.Chunk(headers, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	return req
}

// answer is a response that has been read.
type answer struct {
	status      int
	header      http.Header
	proto       string // such as HTTP/2.0
	major       int    // of proto
	body        []byte // at most maxBody
	began, came time.Time
}

// send sends a request and reads the answer. It also returns the header if the body is incomplete.
func send(client *http.Client, req *http.Request) (answer, error) {
	ctx, cancel := context.WithTimeout(req.Context(), requestTime)
	defer cancel()
	a := answer{began: time.Now(), header: http.Header{}}
	resp, err := client.Do(req.WithContext(ctx))
	if err != nil {
		return a, reason(err)
	}
	defer resp.Body.Close()
	a.came = time.Now()
	a.status, a.header, a.proto, a.major = resp.StatusCode, resp.Header, resp.Proto, resp.ProtoMajor
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return a, reason(err)
}

// certificateError means that the certificate of the server was refused.
type certificateError struct{ error }

func (e certificateError) Error() string { return "certificate not valid: " + e.error.Error() }

// reason returns the error of a request without its URL, and with a plain text for a timeout.
func reason(err error) error {
	if err == nil {
		return nil
	}
	if wrapped := new(tls.CertificateVerificationError); errors.As(err, &wrapped) {
		return certificateError{wrapped.Err}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v", requestTime)
	}
	for u := errors.Unwrap(err); u != nil && strings.Contains(err.Error(), "://"); u = errors.Unwrap(err) {
		err = u
	}
	return err
}

// json decodes a JSON object into v. It returns false if the answer is not one.
func (a answer) json(v any) bool {
	return strings.HasSuffix(a.mediaType(), "json") && json.Unmarshal(a.body, v) == nil
}

func (a answer) mediaType() string {
	t, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	return t
}

// problem returns the detail of a problem document of presence, or "".
func (a answer) problem() string {
	var p struct {
		Type, Title, Detail string
		Status              int
	}
	if a.mediaType() != "application/problem+json" || !a.json(&p) || p.Type != "about:blank" || p.Status != a.status {
		return ""
	}
	return p.Detail
}

func (a answer) isRedirect() bool {
	return a.status >= 300 && a.status < 400 && a.header.Get("Location") != ""
}

// String returns the status and the type of the answer, or the detail of its problem.
func (a answer) String() string {
	text := strings.TrimSpace(fmt.Sprintf("status %d %s", a.status, http.StatusText(a.status)))
	if p := a.problem(); p != "" {
		return text + ": " + cut(p)
	}
	if a.isRedirect() {
		return text + " to " + cut(a.header.Get("Location"))
	}
	if t := a.mediaType(); t != "" {
		text += ", " + cut(t)
	}
	if by := a.header.Get("Server"); by != "" {
		text += ", Server: " + cut(by)
	}
	return text
}

// maxText is the maximum length of a text from the server in a verdict, in bytes. It must exceed a
// token, so that redact finds the token whole; verdicts are cut again after that.
const maxText = 8 << 10

// cut shortens a text from the server.
func cut(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
