package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/presence/cmd/presence/internal/doctor"
)

// faultyProxy is a reverse proxy in front of a server, with a fault.
type faultyProxy struct {
	noCORS  bool                              // the server has no --cors-origin
	flags   []string                          // of the server
	mount   string                            // the URL has this path
	request func(*httputil.ProxyRequest)      // changes a request
	answer  func(*testing.T, *http.Response)  // changes a response
	wrap    func(http.Handler) http.Handler   // around the proxy
	args    []string                          // of the command; TOKEN is an expired token
	check   string                            // the check that reports the fault
	fix     string                            // part of its lines
	level   map[string]doctor.Level           // of other checks, none of which is a fault
	token   func(t *testing.T) (token string) // nil: the command signs one
}

const appOrigin = "https://app.presence.example"

// The ten faults that the command must find, and some more.
var faultyProxies = map[string]faultyProxy{
	"buffering": {
		answer: onStream(func(r *http.Response) { r.Body = &heldBody{ReadCloser: r.Body, size: 64 << 10} }),
		check:  "buffering", fix: "proxy_buffering off;",
		level: map[string]doctor.Level{"idle": doctor.Note, "cookie": doctor.OK},
	},
	"buffering for a time": {
		answer: onStream(func(r *http.Response) { r.Body = &heldBody{ReadCloser: r.Body, size: 1, each: 5 * time.Second} }),
		check:  "buffering", fix: "proxy_buffering off;",
	},
	"buffering until a tick of 5 s, from the first message on": {
		answer: onStream(func(r *http.Response) { r.Body = newMessageTickBody(r, 5*time.Second) }),
		check:  "buffering", fix: "proxy_buffering off;",
	},
	"buffering after the first events": {
		answer: onStream(func(r *http.Response) { r.Body = newTickBody(r, time.Hour, 6*time.Second) }),
		args:   []string{"--watch=16s"},
		check:  "duration", fix: "proxy_buffering off;",
	},
	"gzip without Accept-Encoding": {
		answer: onStream(func(r *http.Response) {
			r.Header.Set("Content-Encoding", "gzip")
			r.Body = compressing(r.Body)
		}),
		check: "compression", fix: "remove text/event-stream and * from gzip_types",
	},
	"gzip": {
		answer: onStream(func(r *http.Response) {
			if strings.Contains(r.Request.Header.Get("Accept-Encoding"), "gzip") {
				r.Header.Set("Content-Encoding", "gzip")
				r.Body = compressing(r.Body)
			}
		}),
		check: "compression", fix: "remove text/event-stream and * from gzip_types",
	},
	"idle cut-off of 5 s": {
		answer: onStream(func(r *http.Response) { r.Body = newCutBody(r.Body, 5*time.Second, true) }),
		args:   []string{"--watch=11s"}, // a ping may be 5 s after the begin, as all streams have one at a time
		check:  "idle", fix: "proxy_read_timeout 60s;",
	},
	"total cut-off of 15 s": {
		answer: onStream(func(r *http.Response) { r.Body = newCutBody(r.Body, 15*time.Second, false) }),
		args:   []string{"--watch=18s"},
		check:  "duration", fix: "timeout: 0s",
		level: map[string]doctor.Level{"idle": doctor.Note},
	},
	"total cut-off of 7 s in a shared room": {
		flags:  []string{"--heartbeat=5m"},
		answer: onStream(func(r *http.Response) { r.Body = newCutBody(r.Body, 7*time.Second, false) }),
		token: func(t *testing.T) string {
			return must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=alice")
		},
		args:  []string{"--watch=12s"},
		check: "idle", fix: "timeout: 0s",
		level: map[string]doctor.Level{"duration": doctor.Note},
	},
	"no CORS": {
		noCORS: true,
		check:  "cors", fix: "--cors-origin " + appOrigin,
	},
	"no CORS of the stream": {
		answer: onStream(func(r *http.Response) { r.Header.Del("Access-Control-Allow-Origin") }),
		check:  "cors", fix: "--cors-origin " + appOrigin,
	},
	"no CORS of a POST": {
		answer: func(_ *testing.T, r *http.Response) {
			if r.Request.Method == http.MethodPost {
				r.Header.Del("Access-Control-Allow-Origin")
			}
		},
		check: "cors", fix: "--cors-origin " + appOrigin,
	},
	"CORS of the proxy too": {
		answer: func(_ *testing.T, r *http.Response) { r.Header.Add("Access-Control-Allow-Origin", appOrigin) },
		check:  "cors", fix: "add_header Access-Control-Allow-Origin",
	},
	"cookie without Secure behind TLS": {
		flags: []string{"--cookie-insecure"},
		check: "cookie", fix: "without --cookie-insecure",
	},
	"cookie path": {
		answer: func(_ *testing.T, r *http.Response) {
			for i, c := range r.Header["Set-Cookie"] {
				r.Header["Set-Cookie"][i] = strings.Replace(c, "Path=/", "Path=/presence/", 1)
			}
		},
		check: "cookie", fix: "remove proxy_cookie_path",
	},
	"expired token": {
		token: func(t *testing.T) string {
			return signed(t, jwt.SigningMethodHS256, []byte(secret), jwt.MapClaims{"exp": time.Now().Add(-time.Hour).Unix()})
		},
		check: "token", fix: "sign a new token",
		level: map[string]doctor.Level{"stream": doctor.Note, "leave": doctor.Note, "cors": doctor.OK},
	},
	"skewed clock": {
		answer: func(_ *testing.T, r *http.Response) {
			r.Header.Set("Date", time.Now().Add(-10*time.Minute).UTC().Format(http.TimeFormat))
		},
		check: "clock", fix: "NTP",
	},
	"dropped Last-Event-ID": {
		request: func(r *httputil.ProxyRequest) { r.Out.Header.Del("Last-Event-ID") },
		check:   "resume", fix: "proxy_set_header Last-Event-ID $http_last_event_id;",
	},
	"changed Last-Event-ID": {
		request: func(r *httputil.ProxyRequest) {
			if id := r.Out.Header.Get("Last-Event-ID"); id != "" {
				r.Out.Header.Set("Last-Event-ID", "x"+id)
			}
		},
		check: "resume", fix: "proxy_set_header Last-Event-ID $http_last_event_id;",
	},
	"idle stream that is dropped": {
		flags:  []string{"--heartbeat=7s"},
		answer: onStream(func(r *http.Response) { r.Body = newDroppedBody(r, 5*time.Second) }),
		args:   []string{"--watch=20s"}, // the first ping comes within 7 s, the next one not within 12 s
		check:  "idle", fix: "proxy_read_timeout 28s;",
	},
	"hidden leave": {
		flags:   []string{"--heartbeat=1s"},
		request: func(r *httputil.ProxyRequest) { r.Out = r.Out.WithContext(context.WithoutCancel(r.Out.Context())) },
		answer: func(t *testing.T, r *http.Response) {
			onStream(func(r *http.Response) {
				body := r.Body
				t.Cleanup(func() { body.Close() })
				r.Body = struct {
					io.Reader
					io.Closer
				}{body, closing(func() {
					go io.Copy(io.Discard, body) // ends with the test
				})}
			})(t, r)
		},
		args:  []string{"--watch=8s"},
		check: "leave", fix: "proxy_ignore_client_abort",
	},
	"dropped Authorization": {
		request: func(r *httputil.ProxyRequest) { r.Out.Header.Del("Authorization") },
		check:   "token", fix: "proxy_set_header Authorization $http_authorization;",
	},
	"changed Host": {
		request: func(r *httputil.ProxyRequest) { r.Out.Host = "127.0.0.1:8080" },
		check:   "host", fix: "proxy_set_header Host $http_host;",
		level: map[string]doctor.Level{"cookie": doctor.OK}, // the page is of another origin
	},
	"redirect of a POST": {
		wrap: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost && r.Header.Get("Authorization") == "" && r.URL.Path == "/messages" {
					http.Redirect(w, r, "/messages/", http.StatusMovedPermanently)
					return
				}
				next.ServeHTTP(w, r)
			})
		},
		check: "redirect", fix: "use the URL of the redirect",
	},
	"replaced 401": {
		answer: func(_ *testing.T, r *http.Response) {
			if r.StatusCode == http.StatusUnauthorized {
				r.StatusCode = http.StatusOK
				r.Header.Set("Content-Type", "text/html")
			}
		},
		check: "problem", fix: "proxy_intercept_errors off;",
	},
	"cache": {
		answer: func(_ *testing.T, r *http.Response) { r.Header.Set("Age", "17") },
		check:  "cache", fix: "proxy_cache off;",
	},
	"kept prefix": {
		mount: "/presence/",
		check: "service", fix: "proxy_pass http://127.0.0.1:8080/;",
	},
	"wrong mount path": {
		mount: "/app/",
		wrap: func(next http.Handler) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("/", next)
			mux.HandleFunc("/app/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<!doctype html>") })
			return mux
		},
		check: "service", fix: "client: url: https://presence.example/",
	},
}

// quick are the flags of a run that waits for no timeout.
var quick = []string{"--watch=3s", "--origin=" + appOrigin}

// For each fault of a proxy, exactly one check reports a fault, and its lines name the setting.
func TestDoctorFinds(t *testing.T) {
	t.Parallel()
	for name, f := range faultyProxies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := f.run(t)
			for check, v := range r.by {
				switch {
				case check == f.check && v.Level != doctor.Fault, check != f.check && v.Level == doctor.Fault:
					t.Errorf("got %v", v)
				case f.level[check] != "" && v.Level != f.level[check]:
					t.Errorf("got %v, want %s", v, f.level[check])
				}
			}
			if got := r.by[f.check].String(); !strings.Contains(got, f.fix) {
				t.Errorf("got %s\nwant a line with %s", got, f.fix)
			}
			if r.exit != 1 || !strings.Contains(r.stderr, "faults found (1 of 17 checks)") {
				t.Errorf("got exit status %d, %s", r.exit, r.stderr)
			}
		})
	}
}

// If the response names the proxy, the verdict has the line of that proxy alone. nginx holds the
// response header back too. docs/operations.md shows some of these lines, and has a row per check.
func TestDoctorNamesProxy(t *testing.T) {
	t.Parallel()
	block := strings.Replace(proxyBlocks(t)["nginx"][0], "proxy_set_header Host", "proxy_ignore_headers X-Accel-Buffering;\nproxy_set_header Host", 1)
	_, _, addr, origin := proxies["nginx"].serve(t, block, 5*time.Minute)
	r := diagnose(t, addr, origin, "--jwt-secret="+secret, "--watch=1s")
	want := []doctor.Fix{{Of: "nginx", Line: "proxy_buffering off; or remove proxy_ignore_headers X-Accel-Buffering"}}
	if v := r.by["buffering"]; v.Level != doctor.Fault || !slices.Equal(v.Fix, want) {
		t.Errorf("got %v, want a fault with the line of nginx", v)
	}
	if v := r.by["stream"]; v.Level != doctor.Note || r.exit != 1 {
		t.Errorf("got %v, exit status %d, want a note, 1", v, r.exit)
	}
	document := readOperations(t)
	shown := documentedVerdict.FindAllString(document, -1)
	if len(shown) < 5 {
		t.Errorf("got %d verdicts in docs/operations.md, want 5 or more", len(shown))
	}
	for _, line := range shown {
		if v := r.by[strings.Fields(line)[1]]; timeText.ReplaceAllString(v.String(), "TIME") != timeText.ReplaceAllString(line, "TIME") {
			t.Errorf("docs/operations.md has\n%s\ngot\n%v", line, v)
		}
	}
	for check := range r.by {
		if !strings.Contains(document, "\n| `"+check+"` | ") {
			t.Errorf("no row for %s in docs/operations.md", check)
		}
	}
}

var (
	documentedVerdict = regexp.MustCompile(`(?m)^(ok   |note |fault) [a-z]+ .*$`)
	timeText          = regexp.MustCompile(`[0-9.]+(ms|µs|s)\b`)
)

// examined is the result of a run.
type examined struct {
	by     map[string]doctor.Verdict
	exit   int
	stderr string
}

// run starts the server and the proxy, and runs the command.
func (f faultyProxy) run(t *testing.T) examined {
	t.Helper()
	args := append([]string{"--listen=127.0.0.1:0", "--linger=0s"}, f.flags...)
	if !f.noCORS {
		args = append(args, "--cors-origin="+appOrigin)
	}
	_, upstream := serving(t, env{"PRESENCE_JWT_SECRET": secret}, args...)
	proxy := httptest.NewUnstartedServer(nil)
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	var handler http.Handler = &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: upstream})
			r.Out.Host = r.In.Host
			if f.request != nil {
				f.request(r)
			}
		},
		ModifyResponse: func(r *http.Response) error {
			if f.answer != nil {
				f.answer(t, r)
			}
			return nil
		},
		ErrorLog:     log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	if f.wrap != nil {
		handler = f.wrap(handler)
	}
	proxy.Config.Handler = handler
	proxy.EnableHTTP2 = true
	proxy.TLS = &tls.Config{Certificates: []tls.Certificate{keyPair(t)}}
	proxy.StartTLS()
	t.Cleanup(func() { proxy.CloseClientConnections(); proxy.Close() })
	credential := []string{"--jwt-secret=" + secret}
	if f.token != nil {
		credential = []string{"--token=" + f.token(t)}
	}
	return diagnose(t, proxy.Listener.Addr().String(), "https://presence.example"+f.mount, slices.Concat(credential, quick, f.args)...)
}

// keyPair returns a new certificate of presence.example.
func keyPair(t *testing.T) tls.Certificate {
	t.Helper()
	cert, key := pair(t, 1, time.Hour)
	both, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return both
}

// diagnose runs the command for a URL whose server is at addr. If it is https, the certificate of
// the server is trusted. It fails the test if the output has the token or the secret.
func diagnose(t *testing.T, addr, base string, args ...string) examined {
	t.Helper()
	if strings.HasPrefix(base, "https:") {
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, ServerName: "presence.example"})
		if err != nil {
			t.Fatal(err)
		}
		root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: conn.ConnectionState().PeerCertificates[0].Raw})
		conn.Close()
		args = append(args, "--ca="+write(t, t.TempDir(), "root.pem", string(root)))
	}
	stdout, stderr, exit := command(t, nil, append([]string{"doctor", base, "--json", "--connect=" + addr}, args...)...)
	for _, arg := range args {
		if name, value, _ := strings.Cut(arg, "="); (name == "--token" || name == "--jwt-secret") && strings.Contains(stdout+stderr, value) {
			t.Errorf("the output has the value of %s", name)
		}
	}
	var report struct {
		URL      string
		Faults   int
		Verdicts []doctor.Verdict
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%v in %s%s", err, stdout, stderr)
	}
	r := examined{map[string]doctor.Verdict{}, exit, stderr}
	faults := 0
	for _, v := range report.Verdicts {
		r.by[v.Check] = v
		if v.Level == doctor.Fault {
			faults++
		}
		t.Log(v)
	}
	if len(r.by) != len(report.Verdicts) || report.URL != base || report.Faults != faults {
		t.Errorf("got the document %s", stdout)
	}
	return r
}

// In a deployment without a fault, the checks pass.
func TestDoctorPasses(t *testing.T) {
	t.Parallel()
	blocks := proxyBlocks(t)
	const heartbeat = 2 * time.Second
	args := []string{"--jwt-secret=" + secret, "--watch=8s", "--origin=" + appOrigin}
	flags := []string{"--cors-origin=" + appOrigin}
	for name, p := range proxies {
		if !slices.Contains([]string{"nginx", "haproxy", "caddy"}, name) || len(blocks[name]) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, addr, origin := p.serve(t, blocks[name][0], heartbeat, flags...)
			passes(t, diagnose(t, addr, origin, args...), "cors", "protocol")
		})
	}
	e := env{"PRESENCE_JWT_SECRET": secret}
	flags = append(flags, "--listen=127.0.0.1:0", "--heartbeat="+heartbeat.String())
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		certificate(t, cert, key)
		_, addr := serving(t, e, append(flags, "--tls-cert="+cert, "--tls-key="+key)...)
		passes(t, diagnose(t, addr, "https://presence.example", args...), "cors", "protocol")
	})
	t.Run("plain", func(t *testing.T) {
		t.Parallel()
		_, addr := serving(t, e, "--listen=127.0.0.1:0", "--heartbeat="+heartbeat.String())
		r := diagnose(t, addr, "http://"+addr, args[:2]...)
		passes(t, r)
		for _, check := range []string{"cors", "protocol"} {
			if r.by[check].Level != doctor.Note {
				t.Errorf("got %v, want a note", r.by[check])
			}
		}
	})
}

// passes fails the test unless each check has passed that must pass in every good deployment, and
// also the given ones. On a slow machine the timed ones may be notes.
func passes(t *testing.T, r examined, also ...string) {
	t.Helper()
	for _, check := range append(also, "service", "problem", "redirect", "host", "token", "stream", "buffering", "cookie", "compression", "resume", "duration", "cache") {
		if v := r.by[check]; v.Level != doctor.OK {
			t.Errorf("got %v, want ok", v)
		}
	}
	for check, text := range map[string]string{"clock": "this machine", "idle": "stayed open", "leave": "the count fell "} {
		if v := r.by[check]; v.Level == doctor.Fault || !strings.Contains(v.Text, text) {
			t.Errorf("got %v, want no fault, and %s", v, text)
		}
	}
	if r.exit != 0 || !strings.HasPrefix(r.stderr, "no fault (17 checks, ") {
		t.Errorf("got exit status %d, %s", r.exit, r.stderr)
	}
}

// With a token for lobby only, the command shares the room: it sends few messages, and the checks
// that need rooms of their own do not run. Without any credential, most checks do not run.
func TestDoctorWithLess(t *testing.T) {
	t.Parallel()
	_, addr := serving(t, env{"PRESENCE_JWT_SECRET": secret}, "--listen=127.0.0.1:0", "--heartbeat=1s", "--linger=0s")
	t.Run("token for lobby", func(t *testing.T) {
		t.Parallel()
		token := must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=alice")
		r := diagnose(t, addr, "http://"+addr, "--token="+token, "--watch=6s")
		if v := r.by["duration"]; v.Level != doctor.Note || !strings.Contains(v.Text, "doctor-*") {
			t.Errorf("got %v", v)
		}
		for _, check := range []string{"buffering", "resume", "compression", "cookie"} {
			if v := r.by[check]; v.Level != doctor.OK {
				t.Errorf("got %v, want ok", v)
			}
		}
		if v := r.by["leave"]; v.Level == doctor.Fault || !strings.Contains(v.Text, "the count fell ") {
			t.Errorf("got %v", v)
		}
		if got := must(t, env{"PRESENCE_TOKEN": token}, "doctor", "http://"+addr, "--watch=1s"); !strings.Contains(got, "ok    stream      opened in ") || strings.Contains(got, token) {
			t.Errorf("got\n%s", got)
		}
	})
	t.Run("no credential", func(t *testing.T) {
		t.Parallel()
		r := diagnose(t, addr, "http://"+addr)
		if r.exit != 0 || r.by["problem"].Level != doctor.OK {
			t.Errorf("got exit status %d, %v", r.exit, r.by["problem"])
		}
		for _, check := range []string{"token", "stream", "buffering", "leave", "cookie"} {
			if v := r.by[check]; v.Level != doctor.Note || !strings.Contains(v.Text, "set --token or --jwt-secret-file") {
				t.Errorf("got %v", v)
			}
		}
	})
	t.Run("limit of streams", func(t *testing.T) {
		t.Parallel()
		_, addr := serving(t, env{"PRESENCE_JWT_SECRET": secret}, "--listen=127.0.0.1:0", "--max-connections-per-user=1")
		r := diagnose(t, addr, "http://"+addr, "--jwt-secret="+secret, "--watch=1s")
		if v := r.by["compression"]; v.Level != doctor.Note || !strings.Contains(v.Text, `goodbye "full"`) || r.exit != 0 {
			t.Errorf("got %v, exit status %d, want a note, 0", v, r.exit)
		}
	})
	t.Run("guest", func(t *testing.T) {
		t.Parallel()
		_, addr := serving(t, nil, "--dev", "--listen=127.0.0.1:0")
		if v := diagnose(t, addr, "http://"+addr, "--watch=1s").by["buffering"]; v.Level != doctor.OK {
			t.Errorf("got %v, want ok", v)
		}
	})
}

// onStream calls change for the responses that are streams.
func onStream(change func(*http.Response)) func(*testing.T, *http.Response) {
	return func(_ *testing.T, r *http.Response) {
		if r.Header.Get("Content-Type") == "text/event-stream" && r.StatusCode == http.StatusOK {
			change(r)
		}
	}
}

type closing func()

func (c closing) Close() error { c(); return nil }

// heldBody holds data back until it has size bytes, or for a time.
type heldBody struct {
	io.ReadCloser
	size int
	each time.Duration
	full bytes.Buffer
}

func (b *heldBody) Read(p []byte) (int, error) {
	for b.full.Len() == 0 || b.full.Len() < b.size {
		n, err := b.ReadCloser.Read(p)
		b.full.Write(p[:n])
		if err != nil {
			return 0, err
		}
	}
	if b.each > 0 {
		<-time.After(b.each)
	}
	return b.full.Read(p)
}

// cutBody ends after a time: after each read if it is idle, or in total.
type cutBody struct {
	io.ReadCloser
	timer *time.Timer
	idle  time.Duration
}

func newCutBody(body io.ReadCloser, after time.Duration, idle bool) *cutBody {
	b := &cutBody{ReadCloser: body, timer: time.AfterFunc(after, func() { body.Close() })}
	if idle {
		b.idle = after
	}
	return b
}

func (b *cutBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.idle > 0 && err == nil {
		b.timer.Reset(b.idle)
	}
	return n, err
}

func (b *cutBody) Close() error {
	b.timer.Stop()
	return b.ReadCloser.Close()
}

// compressing returns the body in gzip, which is flushed after each read.
func compressing(body io.ReadCloser) io.ReadCloser {
	r, w := io.Pipe()
	go func() { // ends with the body
		defer w.Close()
		z := gzip.NewWriter(w)
		p := make([]byte, 4096)
		for {
			n, err := body.Read(p)
			if n > 0 {
				z.Write(p[:n])
				z.Flush()
			}
			if err != nil {
				return
			}
		}
	}()
	return struct {
		io.Reader
		io.Closer
	}{r, closing(func() { body.Close(); r.Close() })}
}

// tickBody passes everything for a time, and then only at each tick. If nothing comes for longer
// than idle, it passes nothing more.
type tickBody struct {
	io.ReadCloser
	chunks      chan []byte     // closed at the end of the response
	gone        <-chan struct{} // closed when the client is gone
	each        time.Duration
	start, free time.Time
	idle        time.Duration
	text        string // ends the time in which everything passes; "": none
	rest        []byte
}

func newTickBody(r *http.Response, each, free time.Duration) *tickBody {
	b := &tickBody{ReadCloser: r.Body, chunks: make(chan []byte), gone: r.Request.Context().Done(), each: each, start: time.Now(), free: time.Now().Add(free)}
	go b.receive() // ends with the response or the client
	return b
}

func newDroppedBody(r *http.Response, idle time.Duration) *tickBody {
	b := newTickBody(r, 0, 0)
	b.idle = idle
	return b
}

func newMessageTickBody(r *http.Response, each time.Duration) *tickBody {
	b := newTickBody(r, each, time.Hour)
	b.text = "event: doctor"
	return b
}

func (b *tickBody) receive() {
	defer close(b.chunks)
	for {
		p := make([]byte, 4096)
		n, err := b.ReadCloser.Read(p)
		select {
		case b.chunks <- p[:n]:
		case <-b.gone:
			return
		}
		if err != nil {
			return
		}
	}
}

func (b *tickBody) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		began := time.Now()
		b.rest = <-b.chunks // nil at the end
		if b.text != "" && bytes.Contains(b.rest, []byte(b.text)) {
			b.free = began
		}
		wait := time.Duration(0)
		switch {
		case b.idle > 0 && time.Since(began) > b.idle:
			wait = time.Hour
		case b.each > 0 && time.Now().After(b.free):
			wait = b.each - time.Since(b.start)%b.each
		}
		for at := time.After(wait); wait > 0; { // all that comes until the tick
			select {
			case more, open := <-b.chunks:
				b.rest = append(b.rest, more...)
				if !open {
					wait = 0
				}
			case <-b.gone:
				return 0, io.ErrUnexpectedEOF
			case <-at:
				wait = 0
			}
		}
	}
	n := copy(p, b.rest)
	if b.rest = b.rest[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
