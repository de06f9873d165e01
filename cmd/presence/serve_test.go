package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// get sends a GET request on a new connection.
func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true,
	}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// All commands work together: the test creates a token, watches a room, sends a message, checks the
// health and shuts the server down.
func TestServe(t *testing.T) {
	e := env{"PRESENCE_JWT_SECRET": secret}
	server, addr := serving(t, e, "--listen=127.0.0.1:0", "--linger=0s")
	e["PRESENCE_URL"] = "http://" + addr
	token := must(t, e, "token", "--sub=alice", "--join=doc-1", "--send=doc-1")
	e["PRESENCE_TOKEN"] = token
	e["PRESENCE_ROOM"] = "doc-1"

	watcher := start(t, e, "watch")
	watcher.stdout.find(t, "sync\t{")
	watcher.stdout.find(t, "user count\t1")
	id := must(t, e, "send", "--event=chat message", "--id=mine-1", "--json", `{"text":"hi"}`)
	line := watcher.stdout.find(t, "chat message\t")
	for _, want := range []string{`"id":"` + id + `"`, `"data":{"text":"hi"}`, `"from":{"id":"alice"`} {
		if !strings.Contains(line, want) {
			t.Errorf("got %s, want %s in it", line, want)
		}
	}
	must(t, e, "send", "-")
	watcher.stdout.find(t, `"data":"from stdin"`)
	must(t, e, "health")

	server.end()
	watcher.stdout.find(t, `goodbye	{"reason":"draining"}`)
	if exit := server.exit(); exit != 0 {
		t.Errorf("serve: exit status %d\n%s", exit, server.stderr)
	}
	if log := server.stderr.String(); !strings.Contains(log, `"grace":"8s"`) {
		t.Errorf("the log does not write a duration as text:\n%s", log)
	}
	watcher.end()
	if exit := watcher.exit(); exit != 0 {
		t.Errorf("watch: exit status %d\n%s", exit, watcher.stderr)
	}
	if log := server.stderr.String() + watcher.stderr.String(); strings.Contains(log, token) || strings.Contains(log, secret) {
		t.Errorf("the log contains a secret:\n%s", log)
	}

	if _, stderr, exit := command(t, e, "send", "hi"); exit != 1 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("send without a server: exit status %d\n%s", exit, stderr)
	}
	if _, stderr, exit := command(t, e, "health"); exit != 1 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("health without a server: exit status %d\n%s", exit, stderr)
	}
}

// The description of the HTTP API is at /llms.txt, for any client.
func TestServeLLMs(t *testing.T) {
	_, addr := serving(t, env{"PRESENCE_JWT_SECRET": secret}, "--listen=127.0.0.1:0")
	resp, body := get(t, "http://"+addr+"/llms.txt")
	kind := resp.Header.Get("Content-Type")
	if resp.StatusCode != http.StatusOK || kind != "text/plain; charset=utf-8" || !strings.HasPrefix(body, "# presence\n") {
		t.Errorf("GET /llms.txt: got %s, %q, %.20q, want 200, text/plain; charset=utf-8 and the description", resp.Status, kind, body)
	}
}

// The server logs its limits. The default stream limit is the open-file limit minus the idle
// connection limit and the reserve.
func TestLimitsAreLogged(t *testing.T) {
	for flags, want := range map[string]uint64{"": openFiles() - 1024 - 200, "--max-connections=7": 7} {
		server := start(t, env{"PRESENCE_JWT_SECRET": secret}, append([]string{"serve", "--log-format=json", "--listen=127.0.0.1:0"}, strings.Fields(flags)...)...)
		var line struct {
			OpenFiles      uint64 `json:"open_files"`
			MaxConnections uint64 `json:"max_connections"`
		}
		err := json.Unmarshal([]byte(server.stderr.find(t, `"msg":"limits"`)), &line)
		if err != nil || line.OpenFiles != openFiles() || line.MaxConnections != want {
			t.Errorf("%q: got %+v, %v, want %d streams in %d open files", flags, line, err, want, openFiles())
		}
	}
	server := start(t, env{"PRESENCE_JWT_SECRET": secret}, "serve", "--listen=127.0.0.1:0", "--max-connections=16", "--max-connections-per-user=1",
		"--max-idle-connections=17", "--max-connections-per-address=2", "--max-rooms=3", "--max-rooms-per-user=2", "--member-limit=4", "--max-message=5KiB",
		"--message-rate=6", "--history=0", "--history-bytes=7MiB", "--max-unsent-total=8MiB", "--cost-rate=0", "--cost-burst=9MiB", "--history-rate=10KiB")
	want := fmt.Sprintf("open_files=%d reserved_files=200 max_connections=16 max_connections_per_user=1 max_idle_connections=17 max_connections_per_address=2 "+
		"max_rooms=3 max_rooms_per_user=2 member_limit=4 max_unsent_total=8388608 max_message=5120 message_rate=6 "+
		"cost_rate=0 cost_burst=9437184 history_rate=10240 history=0 history_bytes=7340032", openFiles())
	if line := server.stderr.find(t, "msg=limits"); !strings.HasSuffix(line, want) {
		t.Errorf("got %s\nwant %s", line, want)
	}
	for _, c := range []struct {
		files                 uint64
		given                 limitFlags
		wantStreams, wantIdle int
	}{
		{0, limitFlags{}, 0, 1024},
		{1 << 40, limitFlags{}, 0, 1024},
		{100, limitFlags{}, 1, 25},
		{1000, limitFlags{}, 550, 250},
		{1024, limitFlags{}, 568, 256},
		{20000, limitFlags{}, 18776, 1024},
		{1024, limitFlags{MaxConnections: 800}, 800, 24},
		{1024, limitFlags{MaxConnections: 808}, 808, 16},
		{0, limitFlags{MaxConnections: 2000}, 2000, 1024},
		{1024, limitFlags{MaxIdle: 800}, 24, 800},
		{1024, limitFlags{MaxIdle: 24, MaxConnections: 800}, 800, 24},
	} {
		if streams, idle, err := c.given.connections(c.files); streams != c.wantStreams || idle != c.wantIdle || err != nil {
			t.Errorf("%d open files, %+v: got %d, %d, %v", c.files, c.given, streams, idle, err)
		}
	}
	for _, c := range []struct {
		files uint64
		given limitFlags
		want  string
	}{
		{1024, limitFlags{MaxConnections: 809}, "--max-connections is at most 808, not 809: open-file limit (1024) minus 200 reserved and 16 for idle connections"},
		{1024, limitFlags{MaxConnections: 2000}, "--max-connections is at most 808, not 2000"},
		{100, limitFlags{MaxConnections: 1}, "--max-connections is at most 0, not 1: open-file limit (100)"},
		{1024, limitFlags{MaxIdle: 824}, "--max-idle-connections is at most 823, not 824: open-file limit (1024)"},
		{1024, limitFlags{MaxIdle: 25, MaxConnections: 800}, "--max-connections and --max-idle-connections are together at most 824, not 800 and 25"},
		{1024, limitFlags{MaxIdle: 1, MaxConnections: math.MaxInt}, "together at most 824"},
	} {
		if _, _, err := c.given.connections(c.files); status(err) != 2 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d open files, %+v: got %v, want %s", c.files, c.given, err, c.want)
		}
	}
	if files := openFiles(); files > 0 && files < math.MaxInt32 {
		_, stderr, exit := command(t, nil, "serve", "--dev", "--check", fmt.Sprint("--max-connections=", files))
		if want := fmt.Sprintf("not %d: open-file limit (%[1]d) minus 200", files); exit != 2 || !strings.Contains(stderr, want) {
			t.Errorf("--max-connections=%d --check: exit status %d\n%s", files, exit, stderr)
		}
	}
}

// If the server rejects a client, the client exits with an error that contains the response status.
func TestRejected(t *testing.T) {
	e := env{"PRESENCE_JWT_SECRET": secret}
	_, addr := serving(t, e, "--listen=127.0.0.1:0")
	e["PRESENCE_URL"] = "http://" + addr
	e["PRESENCE_TOKEN"] = must(t, e, "token", "--sub=alice")
	for _, args := range [][]string{{"watch", "--room=doc-1"}, {"send", "--room=doc-1", "hi"}} {
		if _, stderr, exit := command(t, e, args...); exit != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "403") {
			t.Errorf("%s: exit status %d\n%s", args[0], exit, stderr)
		}
	}

	// The error reports a missing token only if no token is set.
	for _, token := range []string{"", "bad"} {
		e["PRESENCE_TOKEN"] = token
		for _, args := range [][]string{{"watch"}, {"send", "hi"}} {
			_, stderr, exit := command(t, e, args...)
			explained := strings.Contains(stderr, "token required by the server: set --token or $PRESENCE_TOKEN")
			if exit != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "401") || explained != (token == "") {
				t.Errorf("%s with token %q: exit status %d\n%s", args[0], token, exit, stderr)
			}
		}
	}
}

// Only the host of a TCP address is a host of --dev.
func TestHostsOfListen(t *testing.T) {
	for listen, want := range map[string]string{
		"": "localhost", ":8080": "localhost", "192.0.2.1:8080": "localhost 192.0.2.1", "[2001:db8::1]:80": "localhost 2001:db8::1",
		"laptop.lan:8080": "localhost laptop.lan", "unix:/run/presence.sock": "localhost", "systemd": "localhost",
	} {
		if got := strings.Join(listenFlags{Listen: listen}.devHosts(), " "); got != want {
			t.Errorf("--listen %q: got %s, want %s", listen, got, want)
		}
	}
}

// The log has the settings that decide which clients are accepted, but no secret.
func TestAccessIsLogged(t *testing.T) {
	server, _ := serving(t, env{"PRESENCE_JWT_SECRET": secret}, "--listen=127.0.0.1:0", "--jwt-issuer=me", "--jwt-audience=presence", "--query-token",
		"--cors-origin=https://a.example", "--cors-origin=https://*.b.example", "--cookie-samesite=strict", "--cookie-domain=b.example", "--cookie-path=/p/", "--cookie-insecure")
	const want = `"msg":"access","key_fingerprint":"secret-fa3b2a54dfcfd0b1","issuer":"me","audience":"presence","query_token":true,` +
		`"cors_origins":"https://a.example https://*.b.example","cookie_samesite":"strict","cookie_domain":"b.example","cookie_path":"/p/","cookie_insecure":true}`
	if log := server.stderr.String(); !strings.Contains(log, want) || strings.Contains(log, secret) {
		t.Errorf("got this log, want %s and no secret\n%s", want, log)
	}
}

// With --dev, the server rejects requests for hosts other than local ones and those of --listen and
// --cors-origin, so that a page cannot sign in with DNS rebinding. Without --dev, it accepts any
// host.
func TestDevHosts(t *testing.T) {
	login := func(addr, host string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+"/login", strings.NewReader(`{"name":"Ann"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Origin", "http://"+host)
		resp, err := through(t, addr, false).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	server, addr := serving(t, nil, "--dev", "--listen=127.0.0.1:0", "--cors-origin=http://laptop.lan:8080")
	_, port, _ := net.SplitHostPort(addr)
	for host, want := range map[string]int{
		addr: 200, "localhost:" + port: 200, "app.localhost:" + port: 200, "[::1]:" + port: 200, "laptop.lan:" + port: 200,
		"evil.example:" + port: 421, "192.168.1.5:" + port: 421,
	} {
		if resp := login(addr, host); resp.StatusCode != want || (len(resp.Cookies()) > 0) != (want == 200) {
			t.Errorf("Host %s: got %s with cookies %v, want %d", host, resp.Status, resp.Cookies(), want)
		}
	}
	server.stderr.find(t, `"msg":"request refused","cause":"host","count":1,"detail":"host \"`)
	any, addr := serving(t, nil, "--dev", "--listen=0.0.0.0:0")
	if resp := login("127.0.0.1:"+addr[strings.LastIndex(addr, ":")+1:], "0.0.0.0"); resp.StatusCode != 200 {
		t.Errorf("host of --listen: got %s, want 200", resp.Status)
	}
	if log := any.stderr.String(); !strings.Contains(log, `"msg":"requests for hosts other than localhost, loopback addresses and those of --listen and --cors-origin are rejected (--dev)"`) {
		t.Errorf("got no line about other hosts in the log\n%s", log)
	}
	_, addr = serving(t, env{"PRESENCE_JWT_SECRET": secret}, "--listen=127.0.0.1:0")
	if resp := login(addr, "presence.example"); resp.StatusCode != 404 {
		t.Errorf("without --dev: got %s, want 404", resp.Status)
	}
}

// With --dev, the server logs a URL with the host of --listen. It also logs a warning that states
// which clients may sign in as guests. If it listens on more than loopback, the warning contains
// the address.
func TestDevListens(t *testing.T) {
	for listen, want := range map[string]struct{ url, warning string }{
		"127.0.0.1:0": {"http://127.0.0.1:", `"msg":"guest sign-in open to all users of this machine (--dev)"`},
		"localhost:0": {"http://localhost:", `"msg":"guest sign-in open to all users of this machine (--dev)"`},
		"0.0.0.0:0":   {"http://127.0.0.1:", `"msg":"guest sign-in open to all clients that can connect (--dev)","addr":"ADDR","all_interfaces":true`},
		":0":          {"http://127.0.0.1:", `"msg":"guest sign-in open to all clients that can connect (--dev)","addr":"ADDR","all_interfaces":true`},
	} {
		server, addr := serving(t, nil, "--dev", "--listen="+listen)
		_, port, _ := net.SplitHostPort(addr)
		for _, w := range []string{`"url":"` + want.url + port + `"`, strings.Replace(want.warning, "ADDR", addr, 1)} {
			if log := server.stderr.String(); !strings.Contains(log, w) {
				t.Errorf("--listen %s: no %s in the log\n%s", listen, w, log)
			}
		}
		if resp, _ := get(t, want.url+port+"/healthz"); resp.StatusCode != 200 {
			t.Errorf("%s: %s", want.url, resp.Status)
		}
	}
}

func TestDev(t *testing.T) {
	for name, args := range map[string][]string{
		"random secret": {"--dev"},
		"given secret":  {"--dev", "--jwt-secret=" + secret, "--jwt-issuer=me", "--jwt-audience=presence"},
	} {
		t.Run(name, func(t *testing.T) {
			server, addr := serving(t, env{"PORT": "0"}, args...)
			if host, port, _ := net.SplitHostPort(addr); host != "127.0.0.1" || port == "8080" {
				t.Errorf("server listens on %s, want loopback and the port in $PORT", addr)
			}
			for _, want := range []string{`"url":"http://` + addr + `"`, `"msg":"listening on loopback only (--dev without --listen)"`, `"msg":"guest sign-in open to all users of this machine (--dev)"`} {
				if !strings.Contains(server.stderr.String(), want) {
					t.Errorf("no %s in the log", want)
				}
			}
			if resp, body := get(t, "http://"+addr+"/"); resp.StatusCode != 200 || !strings.Contains(body, "<html") {
				t.Errorf("GET /: %s\n%s", resp.Status, body)
			}

			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+"/login", strings.NewReader(`{"name":"Zoë"}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var guest struct{ ID, Name string }
			if err := json.NewDecoder(resp.Body).Decode(&guest); err != nil || !strings.HasPrefix(guest.ID, "guest-") || guest.Name != "Zoë" {
				t.Fatalf("%s: got %+v, %v", resp.Status, guest, err)
			}
			cookies := resp.Cookies()
			if len(cookies) != 1 || cookies[0].Secure {
				t.Fatalf("got cookies %v, want one for plain HTTP", cookies)
			}
			e := env{"PRESENCE_URL": "http://" + addr, "PRESENCE_TOKEN": cookies[0].Value, "PRESENCE_ROOM": "any-room"}
			must(t, e, "send", "hi")
			if name == "given secret" {
				if u := userOf(t, secret, cookies[0].Value); u.ID != guest.ID || time.Until(u.Expires) < 23*time.Hour {
					t.Errorf("the token is %+v", u)
				}
			}
		})
	}
}

// --check validates the configuration without opening a listener.
func TestCheck(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	cert, key, file := dir+"/cert.pem", dir+"/key.pem", strings.ReplaceAll(write(t, dir, "a,b", secret), ",", `\,`)
	certificate(t, cert, key)
	for _, args := range [][]string{
		{"--jwt-secret=" + secret},
		{"--jwt-public-key=" + cert, "--tls-cert=" + cert, "--tls-key=" + key},
		{"--jwt-secret=" + secret, "--jwt-secret-file=" + file, "--jwt-secret-file=" + file, "--jwt-public-key=" + cert, "--jwt-public-key=" + cert},
		{"--dev", "--jwt-public-key=" + cert, "--jwt-secret-file=" + file},
		{"--dev", "--max-message=1MiB", "--linger=0s", "--cors-origin=*", "--count=users", "--cookie-domain=example.com"},
	} {
		args = append([]string{"serve", "--check", "--listen=" + taken.Addr().String()}, args...)
		if got := must(t, nil, args...); got != "configuration is valid" {
			t.Errorf("%q: got %q", args, got)
		}
	}

	_, stderr, exit := command(t, nil, "serve", "--jwt-secret="+secret, "--listen="+taken.Addr().String())
	if exit != 1 || strings.Count(stderr, "presence: ") != 1 || !strings.Contains(stderr, "presence: --listen: ") {
		t.Errorf("an address in use: exit status %d\n%s", exit, stderr)
	}
}

// --check fails if it cannot fetch the JWK Set, although a server starts without it.
func TestCheckJWKS(t *testing.T) {
	const key = `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}` // RFC 8037 appendix A.2
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/keys":
			io.WriteString(w, key)
		case "/none":
			io.WriteString(w, `{"keys":[]}`)
		default:
			http.NotFound(w, r)
		}
	}))
	defer issuer.Close()
	gone := httptest.NewServer(nil)
	gone.Close()

	for _, other := range []string{"--log-level=info", "--jwt-secret=" + secret} {
		if got := must(t, nil, "serve", "--check", "--jwks-url="+issuer.URL+"/keys", other); got != "configuration is valid" {
			t.Errorf("%s: got %q", other, got)
		}
	}
	for url, want := range map[string]string{
		gone.URL:             "connection refused",
		issuer.URL + "/":     "unexpected status 404 Not Found",
		issuer.URL + "/none": "no RS256, PS256, ES256 or EdDSA key in the JWK Set",
	} {
		stdout, stderr, exit := command(t, nil, "serve", "--check", "--jwt-secret="+secret, "--jwks-url="+url)
		if exit != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "presence: --jwks-url: ") || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit status %d\n%s%swant one line with %q", url, exit, stdout, stderr, want)
		}
	}

	secretive := strings.Replace(gone.URL, "//", "//user:hidden@", 1) + "/?key=hidden"
	if _, stderr, _ := command(t, nil, "serve", "--check", "--jwks-url="+secretive); strings.Contains(stderr, "hidden") {
		t.Errorf("the error contains a secret: %s", stderr)
	}
	server, _ := serving(t, nil, "--listen=127.0.0.1:0", "--jwks-url="+secretive)
	server.end()
	if exit := server.exit(); exit != 0 || strings.Contains(server.stderr.String(), "hidden") {
		t.Errorf("serve: exit status %d\n%s", exit, server.stderr)
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := dir+"/cert.pem", dir+"/key.pem"
	certificate(t, cert, key)
	e := env{"PRESENCE_TLS_CERT": cert, "PRESENCE_TLS_KEY": key}
	server, addr := serving(t, e, "--dev", "--listen=127.0.0.1:0")
	if !strings.Contains(server.stderr.String(), `"url":"https://`+addr+`"`) {
		t.Errorf("no URL in the log:\n%s", server.stderr)
	}
	if resp, _ := get(t, "https://"+addr+"/healthz"); resp.ProtoMajor != 2 {
		t.Errorf("got %s, want HTTP/2", resp.Proto)
	}
	e["PRESENCE_LISTEN"] = addr
	must(t, e, "health")
	must(t, nil, "health", "--url=https://"+addr)
}

func TestHealth(t *testing.T) {
	alive := true
	mux := http.NewServeMux()
	mux.HandleFunc("/below/healthz", func(w http.ResponseWriter, r *http.Request) {
		if !alive {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.Handle("/healthz", http.RedirectHandler("/below/healthz", http.StatusFound))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: mux}
	done := make(chan error)
	go func() { done <- server.Serve(l) }() // ends with Close
	defer func() { server.Close(); <-done }()

	_, port, _ := net.SplitHostPort(l.Addr().String())
	below := "--url=http://" + l.Addr().String() + "/below/"
	must(t, env{"PORT": port}, "health")
	must(t, env{"PORT": "1", "PRESENCE_LISTEN": "0.0.0.0:" + port}, "health")
	must(t, nil, "health", below)
	alive = false
	if _, stderr, exit := command(t, nil, "health", below); exit != 1 || !strings.Contains(stderr, "503") {
		t.Errorf("exit status %d, %s", exit, stderr)
	}
}

// A zero flag means zero, although a zero in a Config means the default.
func TestZeroIsNone(t *testing.T) {
	parser, err := newParser(t.Context(), &process{getenv: env{}.get}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(strings.Fields("serve --dev --linger 0s --history 0 --message-rate 0")); err != nil {
		t.Fatal(err)
	}
	command := parser.Model.Target.Addr().Interface().(*commands).Serve
	config, _, err := command.config(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil || config.Linger >= 0 || config.History >= 0 || config.MessageRate >= 0 {
		t.Errorf("got linger %v, history %d, rate %v, %v; want negative values, which mean none", config.Linger, config.History, config.MessageRate, err)
	}
}

func TestLocalURL(t *testing.T) {
	for addr, want := range map[string]string{
		":8080":          "http://127.0.0.1:8080",
		"0.0.0.0:80":     "http://127.0.0.1:80",
		"[::]:8080":      "http://[::1]:8080",
		"10.0.0.7:8080":  "http://10.0.0.7:8080",
		"localhost:8080": "http://localhost:8080",
	} {
		if got := localURL(addr, false); got != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
}

// Promise 8: the listener stays open until every client has received goodbye, so that new clients
// receive it too. The server closes the listener only then.
func TestServeUntilListensToTheEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	ctx, end := context.WithCancel(t.Context())
	end()
	drain := func(context.Context) error {
		if resp, _ := get(t, url); resp.StatusCode != http.StatusTeapot {
			t.Errorf("got %s", resp.Status)
		}
		return nil
	}
	h := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })}
	if err := serveUntil(ctx, l, h, drain, time.Minute, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
		conn.Close()
		t.Error("listener still open after the shutdown")
	}
}

// Promise 8: the shutdown completes within the grace period, even if streams and requests do not
// end.
func TestServeUntilKeepsTheGrace(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	left := make(chan struct{})
	h := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		end()
		<-r.Context().Done()
		close(left)
	})}
	stuck := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: presence.example\r\n\r\n")
	var log bytes.Buffer
	err = serveUntil(ctx, l, h, stuck, 50*time.Millisecond, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil || !strings.Contains(log.String(), "shutdown grace period exceeded: streams still open\" grace=50ms") {
		t.Errorf("got %v, log:\n%s", err, log.String())
	}
	<-left
}

func TestServeUntilTheListenerFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	drained := false
	drain := func(context.Context) error { drained = true; return nil }
	if err := serveUntil(t.Context(), l, &http.Server{}, drain, time.Minute, slog.New(slog.DiscardHandler)); !errors.Is(err, net.ErrClosed) || !drained {
		t.Errorf("got %v, drained %v", err, drained)
	}
}

// Promise 8: the first signal starts an orderly shutdown with exit status 0. A second signal
// terminates the process immediately.
func TestSignals(t *testing.T) {
	t.Run("SIGTERM", func(t *testing.T) {
		server, log, addr := serveProcess(t, "--shutdown-grace=5s")
		get(t, "http://"+addr+"/readyz")
		server.Process.Signal(syscall.SIGTERM)
		if err := server.Wait(); err != nil {
			t.Errorf("got %v, want exit status 0\n%s", err, log)
		}
	})

	t.Run("twice", func(t *testing.T) {
		server, log, addr := serveProcess(t, "--shutdown-grace=5s")
		// A request that never ends keeps the shutdown from completing.
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "POST /login HTTP/1.1\r\nHost: "+addr+"\r\nContent-Type: application/json\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
		if _, err := conn.Read(make([]byte, len("HTTP/1.1 100"))); err != nil { // the handler is reading
			t.Fatal(err)
		}
		server.Process.Signal(os.Interrupt)
		log.find(t, "shutting down")
		server.Process.Signal(syscall.SIGTERM)
		server.Wait()
		if s := server.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != syscall.SIGTERM {
			t.Errorf("got %v, want termination by the signal\n%s", server.ProcessState, log)
		}
	})
}

func TestPrintable(t *testing.T) {
	got := printable("a\x1b[2Jb\nc\u009b\tĳ")
	if want := "a\ufffd[2Jb\ufffdc\ufffd\ufffdĳ"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
