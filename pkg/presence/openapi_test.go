package presence_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
)

// openAPI holds docs/openapi.yaml.
type openAPI struct {
	*openapi3.T
	router routers.Router
}

// readOpenAPI reads the document and validates it.
func readOpenAPI(t *testing.T) openAPI {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil { // its examples included
		t.Fatal(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.PlainBodyDecoder)
	return openAPI{doc, router}
}

// operations returns the methods of each path.
func (d openAPI) operations() map[string][]string {
	operations := map[string][]string{}
	for path, item := range d.Paths.Map() {
		operations[path] = slices.Sorted(maps.Keys(item.Operations()))
	}
	return operations
}

// reply is a response with its body. The body of a stream ends after the first event that has a
// name.
type reply struct {
	*http.Response
	body, event string
}

func readReply(t *testing.T, r *http.Response) reply {
	t.Helper()
	a := reply{Response: r}
	late := time.AfterFunc(patience, func() { r.Body.Close() })
	defer late.Stop()
	defer r.Body.Close()
	lines := bufio.NewReader(r.Body)
	for {
		line, err := lines.ReadString('\n')
		a.body += line
		if errors.Is(err, io.EOF) {
			return a
		}
		if err != nil {
			t.Fatalf("%s %s: got %v after %q, want the end or an event", r.Request.Method, r.Request.URL, err, a.body)
		}
		if event, found := strings.CutPrefix(line, "event: "); found {
			a.event = strings.TrimSuffix(event, "\n")
		}
		if line == "\n" && a.event != "" {
			return a
		}
	}
}

// check returns an error if the operation does not document the response.
func (d openAPI) check(operation *openapi3.Operation, a reply) error {
	documented := operation.Responses.Status(a.StatusCode)
	if documented == nil {
		return fmt.Errorf("got status %d, want one of the document", a.StatusCode)
	}
	headers := []string{"Connection", "Content-Length", "Content-Type", "Date"} // on any response
	for name := range documented.Value.Headers {
		headers = append(headers, http.CanonicalHeaderKey(name))
	}
	for name := range a.Header {
		if !slices.Contains(headers, name) {
			return fmt.Errorf("got header %s, want one of the document", name)
		}
	}
	if a.body != "" && len(documented.Value.Content) == 0 {
		return fmt.Errorf("got body %q, want none as in the document", a.body)
	}
	head := a.Request.Method == http.MethodHead
	request := a.Request.Clone(context.Background())
	request.Method = http.MethodGet // the validator ignores the headers of a response to HEAD
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: request,
			Route:   &routers.Route{Spec: d.T, Operation: operation},
		},
		Status:  a.StatusCode,
		Header:  a.Header,
		Options: &openapi3filter.Options{ExcludeResponseBody: head},
	}
	if err := openapi3filter.ValidateResponse(context.Background(), input.SetBodyBytes([]byte(a.body))); err != nil {
		return err
	}
	if head || a.Header.Get("Content-Type") != "application/problem+json" {
		return nil
	}
	var problem struct {
		Title  string
		Status int
	}
	if err := json.Unmarshal([]byte(a.body), &problem); err != nil {
		return err
	}
	if problem.Status != a.StatusCode || problem.Title != http.StatusText(a.StatusCode) {
		return fmt.Errorf("got problem %d %s, want %d %s", problem.Status, problem.Title, a.StatusCode, http.StatusText(a.StatusCode))
	}
	return nil
}

// accepts returns an error if the document does not allow the request.
func (d openAPI) accepts(r *http.Request) error {
	r = r.Clone(context.Background())
	body, err := r.GetBody()
	if err != nil {
		return err
	}
	r.Body = body
	route, path, err := d.router.FindRoute(r)
	if err != nil {
		return err
	}
	return openapi3filter.ValidateRequest(context.Background(), &openapi3filter.RequestValidationInput{
		Request:    r,
		PathParams: path,
		Route:      route,
		Options: &openapi3filter.Options{
			RejectWhenRequestBodyNotSpecified: true,
			SkipSettingDefaults:               true,
			AuthenticationFunc:                credential,
		},
	})
}

// credential returns an error if the request has no credential for the security scheme. The
// credential need not be valid.
func credential(_ context.Context, input *openapi3filter.AuthenticationInput) error {
	r, scheme := input.RequestValidationInput.Request, input.SecurityScheme
	has := false
	switch {
	case scheme.Type == "http" && scheme.Scheme == "bearer":
		has = strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ")
	case scheme.Type == "apiKey" && scheme.In == "cookie":
		_, err := r.Cookie(scheme.Name)
		has = err == nil
	case scheme.Type == "apiKey" && scheme.In == "query":
		has = r.URL.Query().Has(scheme.Name)
	}
	if !has {
		return errors.New("no " + input.SecuritySchemeName)
	}
	return nil
}

// someMetrics is a Config.Metrics.
var someMetrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	io.WriteString(w, "up 1\n")
})

// The document lists exactly the routes in the source of this package. A server returns 405 for
// every method that is not documented, and for no other.
func TestOpenAPIRoutes(t *testing.T) {
	d := readOpenAPI(t)
	h := open(t, presence.Config{Guest: func(string) (string, presence.User, error) { return "", presence.User{}, nil }, Metrics: someMetrics})
	documented := d.operations()

	routes := map[string][]string{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if methods, path, ok := routeOf(n); ok {
				routes[path] = append(routes[path], methods...)
			}
			return true
		})
	}
	for path := range routes {
		slices.Sort(routes[path])
	}
	if !maps.EqualFunc(routes, documented, slices.Equal) {
		t.Errorf("got routes %v,\nwant those of the document: %v", routes, documented)
	}

	for path, methods := range documented {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"} {
			a := readReply(t, h.ask(method, strings.ReplaceAll(path, "{id}", "alice"), "", ""))
			if got, want := a.StatusCode == http.StatusMethodNotAllowed, !slices.Contains(methods, method); got != want {
				t.Errorf("%s %s: got %s, want 405 for methods other than %v", method, path, a.Status, methods)
			}
			if a.StatusCode != http.StatusMethodNotAllowed {
				continue
			}
			if err := d.check(d.only("MethodNotAllowed", 405), a); err != nil {
				t.Errorf("%s %s: response does not match the document: %v", method, path, err)
			}
			if got, want := a.Header.Get("Allow"), strings.Join(methods, ", "); got != want {
				t.Errorf("%s %s: Allow: got %q, want %q", method, path, got, want)
			}
		}
	}
	if err := d.check(d.only("NotFound", 404), readReply(t, h.ask("GET", "/nothing", "", ""))); err != nil {
		t.Errorf("GET /nothing: response does not match the document: %v", err)
	}
}

// routeOf returns the methods and the path of a call that registers a route, such as
// r.Get("/events", f). get("/rooms", f) registers the methods GET and HEAD.
func routeOf(n ast.Node) (methods []string, path string, ok bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) != 2 {
		return nil, "", false
	}
	switch f := call.Fun.(type) {
	case *ast.SelectorExpr:
		methods = []string{strings.ToUpper(f.Sel.Name)}
	case *ast.Ident:
		if f.Name == "get" {
			methods = []string{"GET", "HEAD"}
		}
	}
	literal, ok := call.Args[0].(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING || methods == nil {
		return nil, "", false
	}
	path, err := strconv.Unquote(literal.Value)
	return methods, path, err == nil && strings.HasPrefix(path, "/")
}

// only returns an operation whose only documented response is that component.
func (d openAPI) only(component string, status int) *openapi3.Operation {
	return &openapi3.Operation{Responses: openapi3.NewResponses(openapi3.WithStatus(status, d.Components.Responses[component]))}
}

// inDebt returns a server that refuses the user of these headers with 429 for hours: the user has
// sent a large message to the lobby. The snapshot of the lobby is larger than 4 KiB.
func inDebt(t *testing.T, headers []string) *testServer {
	t.Helper()
	h := open(t, presence.Config{CostRate: 1, CostBurst: 64 << 10, FullStatus: http.StatusServiceUnavailable})
	info := []byte(`"` + strings.Repeat("x", 1000) + `"`)
	for i := range 10 {
		h.stream("/events", mint(t, auth.Claims{Sub: fmt.Sprint("user-", i), Info: info, TTL: time.Hour})).next("user count")
	}
	if r := h.ask("POST", "/messages", "", strings.Repeat("x", 60_000), append([]string{"Content-Type", "text/plain"}, headers...)...); r.StatusCode != http.StatusAccepted {
		t.Fatalf("got %s for the first message, want 202", r.Status)
	}
	return h
}

// The server returns every documented status of every operation, and each request and response
// matches the document.
func TestOpenAPIResponses(t *testing.T) {
	d := readOpenAPI(t)

	guest := func(name string) (string, presence.User, error) {
		return bearer(t, "guest-1"), presence.User{ID: "guest-1", Name: name, Expires: time.Now().Add(time.Minute)}, nil
	}
	usual := open(t, presence.Config{Guest: guest, Metrics: someMetrics})
	guestless := open(t, presence.Config{})
	local := open(t, presence.Config{Guest: guest, Hosts: []string{"localhost"}})
	tokenless := open(t, presence.Config{Guest: func(string) (string, presence.User, error) { return "", presence.User{}, errors.New("no key") }})
	slow := open(t, presence.Config{MessageRate: 1e-3, MessageBurst: 1})
	full := open(t, presence.Config{MaxConnections: 1, FullStatus: http.StatusServiceUnavailable})
	fullOf := open(t, presence.Config{MaxConnections: 1})
	keyless := open(t, presence.Config{Authenticator: authenticator(func(*http.Request) (presence.User, error) { return presence.User{}, auth.ErrUnavailable })})
	unstreamed := openIn(t, presence.Config{}, plain, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(struct{ http.ResponseWriter }{w}, r) })
	})
	engine := newStatusBus()
	engine.connect(false)
	cut := open(t, presence.Config{Backplane: engine})
	draining := open(t, presence.Config{})
	if err := draining.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	key, err := auth.Secret(secret)
	if err != nil {
		t.Fatal(err)
	}
	withQuery, err := auth.New(auth.Config{Keys: []auth.Key{key}, QueryToken: true})
	if err != nil {
		t.Fatal(err)
	}
	queried := open(t, presence.Config{Authenticator: withQuery})

	token := bearer(t, "alice")
	with := func(token string) []string { return []string{"Authorization", "Bearer " + token} }
	alice, bob := with(token), with(bearer(t, "a/b"))
	lobby := with(mint(t, auth.Claims{Sub: "alice", TTL: time.Hour}))
	admin := with(mint(t, auth.Claims{Sub: "root", Admin: true, TTL: time.Hour}))
	endless := with(mint(t, auth.Claims{Sub: "alice"}))
	jar := []string{"Cookie", auth.HostCookieName + "=" + token}
	stale := []string{"Cookie", auth.HostCookieName + "=rubbish"}
	foreign := []string{"Sec-Fetch-Site", "cross-site"}
	stolen := slices.Concat(jar, foreign)
	bad := with("rubbish")
	long := mint(t, auth.Claims{Sub: "a", Join: []string{strings.Repeat("x", 4000)}, TTL: time.Hour})

	const family = "👨\u200d👩\u200d👧"
	usual.stream("/events?room=doc-1", token).next("user count")
	usual.stream("/events?room=doc-1", bearer(t, "a/b")).next("user count")
	usual.stream("/events?room=doc-2", token).next("user count")
	usual.stream("/events?room=doc-3", bearer(t, "..")).next("user count")
	usual.stream("/events?room=doc-6", mint(t, auth.Claims{Sub: family, Name: family, Join: []string{"*"}, TTL: time.Hour})).next("user count")
	full.stream("/events", token).next("user count")
	fullOf.stream("/events", token).next("user count")
	indebted := inDebt(t, alice)

	const inJSON, text, form = "application/json", "text/plain", "application/x-www-form-urlencoded"
	untried := map[string]bool{}
	for path, item := range d.Paths.Map() {
		for method, operation := range item.Operations() {
			for status := range operation.Responses.Map() {
				untried[method+" "+path+" "+status] = true
			}
		}
	}
	for _, c := range []struct {
		to           *testServer
		name         string // name of the case; for a stream, the name of its first event
		method, path string
		as           []string // request headers
		kind, body   string
		status       int
		valid        bool // the document allows the request
	}{
		{usual, "sync", "GET", "/events", alice, "", "", 200, true},
		{usual, "reset", "GET", "/events?room=doc-1&last_event_id=x-1", alice, "", "", 200, true},
		{usual, "reset", "GET", "/events?room=doc-1", append([]string{"Last-Event-ID", "x-1"}, alice...), "", "", 200, true},
		{usual, "reset", "GET", "/events?room=doc-1&lastEventId=x-1", alice, "", "", 200, true},
		{usual, "sync", "GET", "/events", jar, "", "", 200, true},
		{queried, "sync", "GET", "/events?access_token=" + token, nil, "", "", 200, true},
		{draining, "goodbye", "GET", "/events", alice, "", "", 200, true},
		{fullOf, "goodbye", "GET", "/events", alice, "", "", 200, true},
		{usual, "room's name", "GET", "/events?room=a%20b", alice, "", "", 400, false},
		{usual, "no room's name", "GET", "/events?room=", alice, "", "", 400, false},
		{usual, "long room's name", "GET", "/events?room=" + strings.Repeat("x", 129), alice, "", "", 400, false},
		{usual, "two rooms", "GET", "/events?room=a&room=b", alice, "", "", 400, true},
		{usual, "body", "GET", "/events", alice, text, "x", 400, false},
		{usual, "no token", "GET", "/events", nil, "", "", 401, false},
		{usual, "token in the query", "GET", "/events?access_token=" + token, nil, "", "", 401, true},
		{usual, "bad token", "GET", "/events", bad, "", "", 401, true},
		{usual, "bad token and good cookie", "GET", "/events", slices.Concat(bad, jar), "", "", 401, true},
		{usual, "wrong room", "GET", "/events?room=doc-1", lobby, "", "", 403, true},
		{usual, "cross-site cookie", "GET", "/events", stolen, "", "", 403, true},
		{unstreamed, "writer that cannot stream", "GET", "/events", alice, "", "", 500, true},
		{keyless, "no keys", "GET", "/events", alice, "", "", 503, true},
		{full, "full", "GET", "/events", alice, "", "", 503, true},
		{indebted, "cost rate exceeded", "GET", "/events", alice, "", "", 429, true},

		{usual, "all members", "POST", "/messages?room=doc-1", alice, inJSON, `{"event":"chat message","data":{"text":"hello"},"id":"mine-1"}`, 202, true},
		{usual, "null", "POST", "/messages", jar, inJSON, `{"data":null}`, 202, true},
		{usual, "admin", "POST", "/messages", admin, inJSON + "; charset=utf-8", `{"data":[1,2.5]}`, 202, true},
		{slow, "text", "POST", "/messages", alice, text, "hello", 202, true},
		{slow, "rate limit exceeded", "POST", "/messages", alice, text, "hello", 429, true},
		{indebted, "cost rate exceeded", "POST", "/messages", alice, text, "hello", 429, true},
		{usual, "no data", "POST", "/messages", alice, inJSON, `{"event":"a"}`, 400, false},
		{usual, "no JSON", "POST", "/messages", alice, inJSON, `{"data":`, 400, false},
		{usual, "array", "POST", "/messages", alice, inJSON, `[1]`, 400, false},
		{usual, "unknown field", "POST", "/messages", alice, inJSON, `{"data":1,"evnet":"a"}`, 400, false},
		{usual, "server's event", "POST", "/messages", alice, inJSON, `{"data":1,"event":"user count"}`, 400, false},
		{usual, "browser's event", "POST", "/messages", alice, inJSON, `{"data":1,"event":"open"}`, 400, false},
		{usual, "blank at the end", "POST", "/messages", alice, inJSON, `{"data":1,"event":"a "}`, 400, false},
		{usual, "control character", "POST", "/messages", alice, inJSON, `{"data":1,"event":"a\nb"}`, 400, false},
		{usual, "format character", "POST", "/messages", alice, inJSON, `{"data":1,"event":"a\u200bb"}`, 400, false},
		{usual, "emoji", "POST", "/messages", alice, inJSON, `{"data":1,"event":"❤️ 👍🏽"}`, 202, true},
		{usual, "long event", "POST", "/messages", alice, inJSON, `{"data":1,"event":"` + strings.Repeat("x", 65) + `"}`, 400, false},
		{usual, "long id", "POST", "/messages", alice, inJSON, `{"data":1,"id":"` + strings.Repeat("x", 65) + `"}`, 400, false},
		{usual, "no id", "POST", "/messages", alice, inJSON, `{"data":1,"id":""}`, 400, false},
		{usual, "room's name", "POST", "/messages?room=a/b", alice, text, "x", 400, false},
		{usual, "no token", "POST", "/messages", nil, text, "x", 401, false},
		{usual, "wrong room", "POST", "/messages?room=doc-1", lobby, text, "x", 403, true},
		{usual, "too large", "POST", "/messages", alice, text, strings.Repeat("x", 64<<10+1), 413, true},
		{usual, "form", "POST", "/messages", alice, form, "data=x", 415, false},
		{usual, "gzip", "POST", "/messages", append([]string{"Content-Encoding", "gzip"}, alice...), text, "x", 415, true},
		{draining, "draining", "POST", "/messages", alice, text, "x", 503, true},
		{keyless, "no keys", "POST", "/messages", alice, text, "x", 503, true},

		{usual, "newest page", "GET", "/messages?room=doc-1", alice, "", "", 200, true},
		{usual, "one message", "GET", "/messages?room=doc-1&limit=1", alice, "", "", 200, true},
		{usual, "of another epoch", "GET", "/messages?room=doc-1&limit=1000&before=0123456789-5", jar, "", "", 200, true},
		{usual, "empty room", "GET", "/messages?room=doc-4", alice, "", "", 200, true},
		{usual, "limit 0", "GET", "/messages?limit=0", alice, "", "", 400, false},
		{usual, "limit 1001", "GET", "/messages?limit=1001", alice, "", "", 400, false},
		{usual, "idempotency key", "GET", "/messages?before=mine-1", alice, "", "", 400, false},
		{usual, "no token", "GET", "/messages", nil, "", "", 401, false},
		{usual, "wrong room", "GET", "/messages?room=doc-1", lobby, "", "", 403, true},
		{usual, "cross-site cookie", "GET", "/messages", stolen, "", "", 403, true},
		{draining, "draining", "GET", "/messages", alice, "", "", 503, true},
		{cut, "no backplane", "GET", "/messages", alice, "", "", 503, true},
		{keyless, "no keys", "GET", "/messages", alice, "", "", 503, true},
		{indebted, "cost rate exceeded", "GET", "/messages", alice, "", "", 429, true},

		{usual, "newest page", "HEAD", "/messages?room=doc-1", alice, "", "", 200, true},
		{usual, "one message", "HEAD", "/messages?room=doc-1&limit=1", alice, "", "", 200, true},
		{usual, "of another epoch", "HEAD", "/messages?room=doc-1&limit=1000&before=0123456789-5", jar, "", "", 200, true},
		{usual, "empty room", "HEAD", "/messages?room=doc-4", alice, "", "", 200, true},
		{usual, "limit 0", "HEAD", "/messages?limit=0", alice, "", "", 400, false},
		{usual, "limit 1001", "HEAD", "/messages?limit=1001", alice, "", "", 400, false},
		{usual, "idempotency key", "HEAD", "/messages?before=mine-1", alice, "", "", 400, false},
		{usual, "no token", "HEAD", "/messages", nil, "", "", 401, false},
		{usual, "wrong room", "HEAD", "/messages?room=doc-1", lobby, "", "", 403, true},
		{usual, "cross-site cookie", "HEAD", "/messages", stolen, "", "", 403, true},
		{draining, "draining", "HEAD", "/messages", alice, "", "", 503, true},
		{cut, "no backplane", "HEAD", "/messages", alice, "", "", 503, true},
		{keyless, "no keys", "HEAD", "/messages", alice, "", "", 503, true},
		{indebted, "cost rate exceeded", "HEAD", "/messages", alice, "", "", 429, true},

		{usual, "object", "PUT", "/state?room=doc-1", alice, inJSON, `{"status":"away"}`, 204, true},
		{usual, "null", "PUT", "/state?room=doc-1", alice, inJSON, `null`, 204, true},
		{usual, "no JSON", "PUT", "/state?room=doc-1", alice, inJSON, `{`, 400, false},
		{usual, "no token", "PUT", "/state", nil, inJSON, `1`, 401, false},
		{usual, "wrong room", "PUT", "/state?room=doc-1", lobby, inJSON, `1`, 403, true},
		{usual, "not in the room", "PUT", "/state?room=doc-4", alice, inJSON, `1`, 409, true},
		{usual, "too large", "PUT", "/state?room=doc-1", alice, inJSON, `"` + strings.Repeat("x", 1<<10) + `"`, 413, true},
		{usual, "text", "PUT", "/state?room=doc-1", alice, text, `1`, 415, false},
		{draining, "draining", "PUT", "/state", alice, inJSON, `1`, 503, true},
		{indebted, "cost rate exceeded", "PUT", "/state", alice, inJSON, `1`, 429, true},

		{usual, "one page", "GET", "/presence?room=doc-1", alice, "", "", 200, true},
		{usual, "first page", "GET", "/presence?room=doc-1&limit=1", alice, "", "", 200, true},
		{usual, "last page", "GET", "/presence?room=doc-1&limit=1000&after=a%2Fb", alice, "", "", 200, true},
		{usual, "id with joiners", "GET", "/presence?room=doc-6", alice, "", "", 200, true},
		{usual, "empty room", "GET", "/presence?room=doc-4", jar, "", "", 200, true},
		{usual, "limit 0", "GET", "/presence?limit=0", alice, "", "", 400, false},
		{usual, "limit 1001", "GET", "/presence?limit=1001", alice, "", "", 400, false},
		{usual, "empty limit, ignored", "GET", "/presence?limit=&after=", alice, "", "", 200, false},
		{usual, "no token", "GET", "/presence", nil, "", "", 401, false},
		{usual, "wrong room", "GET", "/presence?room=doc-1", lobby, "", "", 403, true},
		{draining, "draining", "GET", "/presence", alice, "", "", 503, true},
		{indebted, "cost rate exceeded", "GET", "/presence", alice, "", "", 429, true},

		{usual, "one page", "HEAD", "/presence?room=doc-1", alice, "", "", 200, true},
		{usual, "limit 0", "HEAD", "/presence?limit=0", alice, "", "", 400, false},
		{usual, "no token", "HEAD", "/presence", nil, "", "", 401, false},
		{usual, "wrong room", "HEAD", "/presence?room=doc-1", lobby, "", "", 403, true},
		{draining, "draining", "HEAD", "/presence", alice, "", "", 503, true},
		{indebted, "cost rate exceeded", "HEAD", "/presence", alice, "", "", 429, true},

		{usual, "one page", "GET", "/rooms", admin, "", "", 200, true},
		{usual, "first page", "GET", "/rooms?limit=1", admin, "", "", 200, true},
		{usual, "last page", "GET", "/rooms?after=zebra", admin, "", "", 200, true},
		{usual, "limit", "GET", "/rooms?limit=many", admin, "", "", 400, false},
		{usual, "no token", "GET", "/rooms", nil, "", "", 401, false},
		{usual, "no admin", "GET", "/rooms", alice, "", "", 403, true},
		{draining, "draining", "GET", "/rooms", admin, "", "", 503, true},

		{usual, "one page", "HEAD", "/rooms", admin, "", "", 200, true},
		{usual, "limit", "HEAD", "/rooms?limit=many", admin, "", "", 400, false},
		{usual, "no token", "HEAD", "/rooms", nil, "", "", 401, false},
		{usual, "no admin", "HEAD", "/rooms", alice, "", "", 403, true},
		{draining, "draining", "HEAD", "/rooms", admin, "", "", 503, true},

		{usual, "removed", "DELETE", "/members?room=doc-3&id=..&for=1m30s", admin, "", "", 204, true},
		{usual, "removed before", "DELETE", "/members?room=doc-3&id=..", admin, "", "", 404, true},
		{usual, "id with joiners", "DELETE", "/members?room=doc-6&id=" + url.QueryEscape(family), admin, "", "", 204, true},
		{usual, "no id", "DELETE", "/members?room=doc-1", admin, "", "", 400, false},
		{usual, "no token", "DELETE", "/members?id=alice", nil, "", "", 401, false},
		{usual, "no admin", "DELETE", "/members?id=alice", alice, "", "", 403, true},
		{draining, "draining", "DELETE", "/members?id=alice", admin, "", "", 503, true},

		{usual, "removed", "DELETE", "/members/a%2Fb?room=doc-1&for=1m30s", admin, "", "", 204, true},
		{usual, "removed before", "GET", "/events?room=doc-1", bob, "", "", 403, true},
		{usual, "removed before", "DELETE", "/members/a%2Fb?room=doc-1", admin, "", "", 404, true},
		{usual, "room's name", "DELETE", "/members/alice?room=*", admin, "", "", 400, false},
		{usual, "days", "DELETE", "/members/alice?room=doc-1&for=1d", admin, "", "", 400, false},
		{usual, "no unit", "DELETE", "/members/alice?room=doc-1&for=60", admin, "", "", 400, false},
		{usual, "too short", "DELETE", "/members/alice?room=doc-1&for=999ms", admin, "", "", 400, true},
		{usual, "too long", "DELETE", "/members/alice?room=doc-1&for=24h1s", admin, "", "", 400, true},
		{usual, "no token", "DELETE", "/members/alice", nil, "", "", 401, false},
		{usual, "no admin", "DELETE", "/members/alice", alice, "", "", 403, true},
		{draining, "draining", "DELETE", "/members/alice", admin, "", "", 503, true},

		{usual, "not in the room", "DELETE", "/members?room=doc-3&id=..&for=1m30s", admin, "", "", 204, true},
		{usual, "control character", "DELETE", "/members?room=doc-3&id=a%00&for=1m30s", admin, "", "", 400, false},
		{usual, "one page", "GET", "/bans?room=doc-3", admin, "", "", 200, true},
		{usual, "first page", "GET", "/bans?room=doc-1&limit=1", admin, "", "", 200, true},
		{usual, "last page", "GET", "/bans?room=doc-1&after=a%2Fb", admin, "", "", 200, true},
		{usual, "limit", "GET", "/bans?limit=many", admin, "", "", 400, false},
		{usual, "no token", "GET", "/bans", nil, "", "", 401, false},
		{usual, "no admin", "GET", "/bans", alice, "", "", 403, true},
		{draining, "draining", "GET", "/bans", admin, "", "", 503, true},

		{usual, "one page", "HEAD", "/bans?room=doc-3", admin, "", "", 200, true},
		{usual, "room's name", "HEAD", "/bans?room=*", admin, "", "", 400, false},
		{usual, "no token", "HEAD", "/bans", nil, "", "", 401, false},
		{usual, "no admin", "HEAD", "/bans", alice, "", "", 403, true},
		{draining, "draining", "HEAD", "/bans", admin, "", "", 503, true},

		{usual, "lifted", "DELETE", "/bans?room=doc-3&id=..", admin, "", "", 204, true},
		{usual, "lifted before", "DELETE", "/bans?room=doc-3&id=..", admin, "", "", 404, true},
		{usual, "no id", "DELETE", "/bans?room=doc-3", admin, "", "", 400, false},
		{usual, "no token", "DELETE", "/bans?id=alice", nil, "", "", 401, false},
		{usual, "no admin", "DELETE", "/bans?id=alice", alice, "", "", 403, true},
		{draining, "draining", "DELETE", "/bans?id=alice", admin, "", "", 503, true},

		{usual, "token", "GET", "/session", alice, "", "", 200, true},
		{usual, "token without expiry", "GET", "/session", endless, "", "", 200, true},
		{usual, "cookie", "GET", "/session", jar, "", "", 200, true},
		{usual, "no token", "GET", "/session", nil, "", "", 200, true},
		{usual, "bad cookie", "GET", "/session", stale, "", "", 200, true},
		{usual, "bad token", "GET", "/session", bad, "", "", 401, true},
		{usual, "bad token and good cookie", "GET", "/session", slices.Concat(bad, jar), "", "", 401, true},
		{usual, "cross-site", "GET", "/session", stolen, "", "", 403, true},
		{keyless, "no keys", "GET", "/session", jar, "", "", 503, true},

		{usual, "token", "HEAD", "/session", alice, "", "", 200, true},
		{usual, "bad token", "HEAD", "/session", bad, "", "", 401, true},
		{usual, "cross-site", "HEAD", "/session", stolen, "", "", 403, true},
		{keyless, "no keys", "HEAD", "/session", jar, "", "", 503, true},

		{usual, "token", "POST", "/session", nil, inJSON, `{"token":"` + token + `"}`, 204, true},
		{usual, "unknown field", "POST", "/session", nil, inJSON, `{"tokne":"x"}`, 400, false},
		{usual, "bad token", "POST", "/session", nil, inJSON, `{"token":"rubbish"}`, 401, true},
		{usual, "blank", "POST", "/session", nil, inJSON, `{"token":" ` + token + `"}`, 401, false},
		{usual, "no token", "POST", "/session", alice, inJSON, `{}`, 400, false},
		{usual, "cross-site", "POST", "/session", foreign, inJSON, `{"token":"` + token + `"}`, 403, true},
		{usual, "token too long for a cookie", "POST", "/session", nil, inJSON, `{"token":"` + long + `"}`, 413, false},
		{usual, "text", "POST", "/session", nil, text, token, 415, false},
		{keyless, "no keys", "POST", "/session", nil, inJSON, `{"token":"` + token + `"}`, 503, true},

		{usual, "cookie", "DELETE", "/session", jar, "", "", 204, true},
		{usual, "no cookie", "DELETE", "/session", alice, "", "", 401, false},
		{usual, "bad cookie", "DELETE", "/session", stale, "", "", 401, true},
		{usual, "cross-site", "DELETE", "/session", stolen, "", "", 403, true},
		{keyless, "no keys", "DELETE", "/session", jar, "", "", 503, true},

		{usual, "guest", "POST", "/login", nil, inJSON, `{"name":" Ann "}`, 200, true},
		{usual, "blank", "POST", "/login", nil, inJSON, `{"name":" "}`, 400, false},
		{usual, "format characters", "POST", "/login", nil, inJSON, `{"name":"\u200b\ufeff"}`, 400, false},
		{usual, "format character", "POST", "/login", nil, inJSON, `{"name":"\u200bAnn"}`, 200, true},
		{usual, "control character", "POST", "/login", nil, inJSON, `{"name":"a\u0000"}`, 400, false},
		{usual, "long name", "POST", "/login", nil, inJSON, `{"name":"` + strings.Repeat("x", 129) + `"}`, 400, false},
		{usual, "no name", "POST", "/login", nil, inJSON, `{}`, 400, false},
		{usual, "cross-site", "POST", "/login", foreign, inJSON, `{"name":"Ann"}`, 403, true},
		{guestless, "no guests", "POST", "/login", nil, inJSON, `{"name":"Ann"}`, 404, true},
		{usual, "too large", "POST", "/login", nil, inJSON, `{"name":"` + strings.Repeat("x", 16<<10) + `"}`, 413, false},
		{usual, "form", "POST", "/login", nil, form, "name=Ann", 415, false},
		{local, "other host", "POST", "/login", []string{"Host", "evil.example"}, inJSON, `{"name":"Ann"}`, 421, true},
		{tokenless, "token cannot be minted", "POST", "/login", nil, inJSON, `{"name":"Ann"}`, 500, true},

		{usual, "metrics", "GET", "/metrics", nil, "", "", 200, true},
		{usual, "metrics", "HEAD", "/metrics", nil, "", "", 200, true},
		{guestless, "no metrics", "GET", "/metrics", nil, "", "", 404, true},
		{guestless, "no metrics", "HEAD", "/metrics", nil, "", "", 404, true},
		{draining, "alive", "GET", "/healthz", nil, "", "", 200, true},
		{draining, "alive", "HEAD", "/healthz", nil, "", "", 200, true},
		{usual, "ready", "GET", "/readyz", nil, "", "", 200, true},
		{usual, "ready", "HEAD", "/readyz", nil, "", "", 200, true},
		{cut, "no contact", "GET", "/readyz", nil, "", "", 200, true},
		{cut, "no contact", "GET", "/presence", alice, "", "", 200, true},
		{cut, "no contact", "GET", "/rooms", admin, "", "", 200, true},
		{cut, "no contact", "GET", "/bans", admin, "", "", 200, true},
		{cut, "no contact", "DELETE", "/bans?id=alice", admin, "", "", 503, true},
		{draining, "draining", "GET", "/readyz", nil, "", "", 503, true},
		{draining, "draining", "HEAD", "/readyz", nil, "", "", 503, true},
	} {
		label := c.method + " " + c.path + ": " + c.name
		if len(label) > 99 {
			label = label[:60] + "…: " + c.name
		}
		headers := slices.Clone(c.as)
		if c.kind != "" {
			headers = append(headers, "Content-Type", c.kind)
		}
		a := readReply(t, c.to.ask(c.method, c.path, "", c.body, headers...))
		isStream := a.Header.Get("Content-Type") == "text/event-stream"
		if a.StatusCode != c.status || isStream && a.event != c.name {
			t.Errorf("%s: got %s, %.200s; want %d", label, a.Status, a.body, c.status)
		}
		route, _, err := d.router.FindRoute(a.Request)
		if err != nil {
			t.Fatalf("%s: got %v, want a route", label, err)
		}
		if err := d.check(route.Operation, a); err != nil {
			t.Errorf("%s: got %s, %.200s, want a response as in the document: %v", label, a.Status, a.body, err)
		}
		if err := d.accepts(a.Request); (err == nil) != c.valid {
			t.Errorf("%s: got request validation error %v, want it valid: %v", label, err, c.valid)
		}
		delete(untried, fmt.Sprint(c.method, " ", route.Path, " ", a.StatusCode))
	}
	for _, status := range slices.Sorted(maps.Keys(untried)) {
		t.Errorf("%s: got no such response, want one because it is documented", status)
	}
}
