package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// proxy describes a proxy that a block in docs/proxies.md configures. Its texts may contain these
// variables:
//
//	PROXY      address that the proxy listens on
//	HOST PORT  host and port of PROXY
//	PRESENCE   address of the server
//	BACKEND    port of PRESENCE
//	CERT KEY   certificate file and key file
//	BOTH       file that contains the certificate and its key
//	MODULES    directory of the npm packages
//	DIR        directory of the test
type proxy struct {
	change     []string // pairs of a text in the document and its replacement in the test
	rest       string   // configuration around the document's block, which is BLOCK; enables all compression
	file       string   // name of the configuration file; "config" if empty
	args       []string // command line, to which the configuration file is appended
	ready      string   // text that the proxy logs once its listener is open
	host       string   // host of the URL; presence.example if empty
	mount      string   // path at which the proxy serves presence, if not /
	plain      bool     // no TLS
	rootCookie bool     // the cookie has the path /, also with mount
	http1      bool     // no HTTP/2
	setsID     bool     // sets X-Request-Id
	imports    []string // npm packages that the configuration imports
	late       [3]int   // heartbeats until a closed stream is detected, by HTTP version; 0 means immediately
	heavy      bool     // keeps a core busy while it starts; skipped with -short
}

var proxies = map[string]proxy{
	"nginx": {
		change: []string{
			"listen 443", "listen PROXY",
			"127.0.0.1:8080", "PRESENCE",
			"/etc/ssl/presence.pem", "CERT",
			"/etc/ssl/presence.key", "KEY",
		},
		rest: `daemon off; pid DIR/pid; error_log stderr notice; events {} http { access_log off; client_body_temp_path DIR/1;
			proxy_temp_path DIR/2; fastcgi_temp_path DIR/3; uwsgi_temp_path DIR/4; scgi_temp_path DIR/5;
			gzip on; gzip_types *; gzip_proxied any; gzip_min_length 1;
			BLOCK
			}`,
		args:   []string{"nginx", "-e", "stderr", "-p", "DIR", "-c"},
		ready:  "start worker process ",
		setsID: true,
	},
	"haproxy": {
		change: []string{"bind :443", "bind PROXY", "127.0.0.1:8080", "PRESENCE", "/etc/haproxy/presence.pem", "BOTH"},
		rest:   "defaults\n mode http\n compression algo gzip\n compression type text/event-stream application/json\nBLOCK",
		args:   []string{"haproxy", "-W", "-db", "-f"},
		ready:  "Loading success",
		setsID: true,
	},
	"caddy": {
		// By default, Caddy fetches a certificate, and also listens on port 80.
		change: []string{"presence.example {", "https://presence.example:PORT {\n bind HOST\n tls CERT KEY", "127.0.0.1:8080", "PRESENCE"},
		rest:   "{\n admin off\n auto_https off\n}\nBLOCK",
		args:   []string{"caddy", "run", "--adapter", "caddyfile", "--config"},
		ready:  "serving initial configuration",
		setsID: true,
	},
	"apache": {
		change: []string{
			"*:443", "PROXY",
			"127.0.0.1:8080", "PRESENCE",
			"/etc/ssl/presence.pem", "CERT",
			"/etc/ssl/presence.key", "KEY",
		},
		rest: modules("mpm_event", "authz_core", "env", "setenvif", "filter", "deflate", "brotli", "proxy", "proxy_http", "ssl", "http2") + `
			ServerName localhost
			Listen PROXY
			User nobody
			Group nogroup
			DefaultRuntimeDir DIR
			PidFile DIR/pid
			ErrorLog /dev/stderr
			StartServers 1
			SetOutputFilter DEFLATE;BROTLI_COMPRESS
			BLOCK`,
		args:  []string{"apache2", "-DFOREGROUND", "-d", "DIR", "-f"},
		ready: "resuming normal operations",
		late:  [3]int{1: 2, 2: 1},
	},
	"vcl": {
		change: []string{`"8080"`, `"BACKEND"`},
		rest:   "BLOCK\nsub vcl_backend_response { set beresp.do_gzip = true; }",
		args:   []string{"varnishd", "-F", "-j", "none", "-n", "DIR/varnish", "-s", "malloc,16m", "-a", "PROXY", "-f"},
		ready:  "said Child starts",
		plain:  true,
		http1:  true,
		heavy:  true,
	},
	"lighttpd": {
		change: []string{
			`":443"`, `"PROXY"`,
			`"port" => 8080`, `"port" => BACKEND`,
			"/etc/ssl/presence.pem", "CERT",
			"/etc/ssl/presence.key", "KEY",
		},
		rest: `server.bind = "DIR/socket"
			server.document-root = "DIR"
			server.modules = ("mod_deflate")
			deflate.mimetypes = ("")
			deflate.allowed-encodings = ("gzip", "br", "deflate")
			BLOCK`,
		args:  []string{"lighttpd", "-D", "-f"},
		ready: "server started",
		late:  [3]int{1: 1},
	},
	"squid": {
		change: []string{
			"https_port 443", "https_port PROXY",
			"parent 8080", "parent BACKEND",
			"/etc/ssl/presence.pem", "CERT",
			"/etc/ssl/presence.key", "KEY",
		},
		rest: `BLOCK
			pid_filename none
			cache_log /dev/null
			access_log none
			netdb_filename none
			pinger_enable off
			coredump_dir DIR
			shutdown_lifetime 0 seconds`,
		args:  []string{"squid", "-N", "-d", "1", "-f"},
		ready: "Accepting reverse-proxy HTTPS Socket connections",
		http1: true,
	},
	"http-proxy.mjs": {
		change:  []string{"127.0.0.1:8080", "PRESENCE", "listen(3000)", `listen(PORT, "HOST")`},
		rest:    `BLOCK; proxy._server.on("listening", () => console.log("ready"))`,
		file:    "http-proxy.mjs",
		imports: []string{"http-proxy"},
		args:    []string{"node"},
		ready:   "ready",
		host:    "localhost",
		plain:   true,
		http1:   true,
		heavy:   true,
	},
	"vite.config.js": {
		change:  []string{"127.0.0.1:8080", "PRESENCE"},
		rest:    "BLOCK",
		file:    "vite.config.mjs",
		imports: []string{"vite"},
		args:    []string{"node", "MODULES/vite/bin/vite.js", "--host", "HOST", "--port", "PORT", "--strictPort", "--configLoader", "native", "--config"},
		ready:   "ready in",
		host:    "localhost",
		mount:   "/presence",
		plain:   true,
		http1:   true,
		heavy:   true,
	},
}

// modules returns the configuration lines that load Apache modules.
func modules(names ...string) (lines string) {
	for _, name := range names {
		lines += "LoadModule " + name + "_module /usr/lib/apache2/modules/mod_" + name + ".so\n"
	}
	return lines
}

// proxyBlocks returns the blocks in docs/proxies.md for each proxy, keyed by its name in proxies.
func proxyBlocks(t *testing.T) map[string][]string {
	t.Helper()
	document, err := os.ReadFile("../../docs/proxies.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string][]string{}
	for _, block := range regexp.MustCompile("(?ms)^```([a-z]+)(?: ([^\n]+))?\n(.*?)^```$").FindAllStringSubmatch(string(document), -1) {
		name := cmp.Or(block[2], block[1])
		blocks[name] = append(blocks[name], block[3])
	}
	for name := range proxies {
		if len(blocks[name]) == 0 {
			t.Errorf("no block for %s in docs/proxies.md", name)
			delete(blocks, name)
		}
	}
	return blocks
}

// The configurations in docs/proxies.md have the properties that the document states.
func TestProxy(t *testing.T) {
	t.Parallel()
	blocks := proxyBlocks(t)
	for name, p := range proxies {
		// The first block of a proxy is a complete configuration. The second block, if any, serves
		// presence at a path prefix, and replaces the `location` or `reverse_proxy` part of the
		// first block.
		if len(blocks[name]) == 0 || p.heavy && testing.Short() {
			continue
		}
		whole := blocks[name][0]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p.test(t, whole)
		})
		if len(blocks[name]) > 1 {
			t.Run(name+" below a prefix", func(t *testing.T) {
				t.Parallel()
				below, block := p.below(t, blocks[name])
				below.test(t, block)
			})
		}
	}
}

// below returns the proxy with presence at a path prefix, and its configuration. blocks are those
// of the proxy.
func (p proxy) below(t *testing.T, blocks []string) (below proxy, block string) {
	t.Helper()
	part := regexp.MustCompile(`(?m)^\s*(location|reverse_proxy) [^{]*\{([^{}]|\{[^{}]*\})*\}\n`)
	if n := len(part.FindAllString(blocks[0], -1)); n != 1 {
		t.Fatalf("got %d parts that the block for a prefix could replace, want 1", n)
	}
	p.mount = "/presence"
	return p, part.ReplaceAllLiteralString(blocks[0], blocks[1])
}

// crowd is the number of members in the room of TestProxy. Their sync event exceeds 512 bytes, the
// size above which Caddy compresses.
const crowd = 12

func (p proxy) test(t *testing.T, block string) {
	if p.heavy {
		heavy(t)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	// The heartbeat is long, because a ping would flush the events that a proxy buffers, and make a
	// proxy detect a closed stream.
	server, upstream, addr, origin := p.serve(t, block, 5*time.Minute, "--trusted-proxies=127.0.0.1")
	via := func(ctx context.Context, client *http.Client, method, path, body string, headers ...string) *http.Response {
		t.Helper()
		return ask(t, ctx, client, method, origin+p.mount+path, body, headers...)
	}
	http1, newest := through(t, addr, false), through(t, addr, !p.http1)
	major := 2
	if p.http1 {
		major = 1
	}
	e := env{"PRESENCE_JWT_SECRET": secret}
	bearer := "Bearer " + must(t, e, "token", "--sub=bob")

	direct := through(t, upstream, false)
	for i := range crowd {
		member := "Bearer " + must(t, e, "token", "--sub=member-"+strconv.Itoa(i))
		m := opened(t, ask(t, ctx, direct, "GET", "http://"+upstream+"/events", "", "Authorization", member), 1)
		m.until(t, "user count", strconv.Itoa(i+1))
	}
	count := func(n int) string { return strconv.Itoa(crowd + n) }
	p.testForged(t, ctx, server, addr, origin)

	// Bob stays connected and receives the events that the other clients cause.
	bob := opened(t, via(ctx, http1, "GET", "/events", "", compressed("Authorization", bearer)...), 1)
	begin := bob.until(t, "sync", `{"connections":`+count(1)+`,`)
	bob.until(t, "user count", count(1))

	// Alice signs in with a cookie. The sign-in fails for a page of another origin.
	token := must(t, e, "token", "--sub=alice")
	signIn := func(origin string) *http.Response {
		return via(ctx, newest, "POST", "/session", `{"token":"`+token+`"}`, "Origin", origin, "Content-Type", "application/json")
	}
	for _, other := range []string{"https://evil.example", origin[:strings.LastIndex(origin, ":")]} {
		if resp := signIn(other); resp.StatusCode != http.StatusForbidden {
			t.Errorf("sign-in of a page of %s at %s: got %s, want 403", other, origin, resp.Status)
		}
	}
	resp := signIn(origin)
	if resp.StatusCode != http.StatusNoContent || len(resp.Cookies()) != 1 {
		t.Fatalf("sign-in: got %s with cookies %v", resp.Status, resp.Cookies())
	}
	cookie := resp.Cookies()[0]
	if cookie.Path != p.mount+"/" {
		t.Errorf("cookie path: got %s, want %s", cookie.Path, p.mount+"/")
	}
	jar := []string{"Cookie", cookie.Name + "=" + cookie.Value, "Origin", origin}
	there, leave := context.WithCancel(ctx)
	defer leave()
	alice := opened(t, via(there, newest, "GET", "/events", "", compressed(jar...)...), major)
	alice.until(t, "sync", `{"connections":`+count(2)+`,`)
	alice.until(t, "user count", count(2))
	bob.until(t, "user count", count(2))

	for i := range crowd {
		text := "hello " + strconv.Itoa(i)
		resp = via(ctx, newest, "POST", "/messages", text, append(jar, "Content-Type", "text/plain")...)
		if resp.StatusCode != http.StatusAccepted {
			t.Fatalf("message: got %s, want 202", resp.Status)
		}
		alice.until(t, "message", `"data":"`+text+`"`)
		bob.until(t, "message", `"data":"`+text+`"`)
	}

	// A client that resumes receives the replay, which is in the first bytes of the stream.
	again, leaveAgain := context.WithCancel(ctx)
	defer leaveAgain()
	dave := opened(t, via(again, newest, "GET", "/events", "", compressed("Authorization", bearer, "Last-Event-ID", begin)...), major)
	for i := range crowd {
		dave.until(t, "message", `"data":"hello `+strconv.Itoa(i)+`"`)
	}
	dave.until(t, "user count", count(3))
	bob.until(t, "user count", count(3))

	// Alice closes one stream, but with HTTP/2 its connection stays open. Carol closes her only
	// stream. In both cases, Bob receives the new count immediately.
	if p.late[major] == 0 {
		leave()
		bob.until(t, "user count", count(2))
		leaveAgain()
		bob.until(t, "user count", count(1))
	}
	if p.late[1] == 0 {
		carol := opened(t, via(ctx, http1, "GET", "/events", "", compressed("Authorization", bearer)...), 1)
		bob.until(t, "user count", count(2))
		carol.Close()
		bob.until(t, "user count", count(1))
	}

	// An admin can remove a user whose ID a proxy may decode if it is part of the path.
	const dora = "team/dora"
	d := opened(t, via(ctx, newest, "GET", "/events?room=team", "", "Authorization", "Bearer "+must(t, e, "token", "--sub="+dora, "--join=team")), major)
	d.until(t, "user count", "1")
	admin := "Bearer " + must(t, e, "token", "--sub=root", "--admin")
	resp = via(ctx, newest, "DELETE", "/members?room=team&id="+url.QueryEscape(dora), "", "Authorization", admin)
	if resp.StatusCode != http.StatusNoContent {
		t.Errorf("removal of %s: got %s, want 204", dora, resp.Status)
	}
	d.until(t, "goodbye", `{"reason":"removed"}`)

	server.end()
	bob.until(t, "goodbye", `{"reason":"draining"}`)
}

// testForged sends requests with headers that name another client. The log has the address of the
// client that sent them. If the proxy sets X-Request-Id, the log has that of the proxy.
func (p proxy) testForged(t *testing.T, ctx context.Context, server *background, addr, origin string) {
	t.Helper()
	for _, name := range []string{"X-Forwarded-For", "Forwarded"} {
		value := "198.51.100.1"
		if name == "Forwarded" {
			value = "for=198.51.100.1"
		}
		for major := 1; major <= 2; major++ {
			if major == 2 && p.http1 {
				continue
			}
			path := fmt.Sprintf("/%s-%d", name, major)
			ask(t, ctx, from(t, "127.0.0.9", addr, major), "GET", origin+p.mount+path, "", name, value, "X-Request-Id", "forged")
			var line struct {
				ClientAddress string `json:"client_address"`
				RequestID     string `json:"request_id"`
			}
			err := json.Unmarshal([]byte(server.stderr.find(t, `"path":"`+path+`"`)), &line)
			if err != nil || line.ClientAddress != "127.0.0.9" {
				t.Errorf("%s over HTTP/%d: got address %s, %v; want 127.0.0.9", name, major, line.ClientAddress, err)
			}
			if got := line.RequestID != "forged"; got != p.setsID {
				t.Errorf("HTTP/%d: got request id %s, set by the proxy: %v, want %v", major, line.RequestID, got, p.setsID)
			}
		}
	}
}

// The server detects a closed stream within the number of heartbeats that docs/proxies.md states
// for the proxy. With PRESENCE_TEST_LONG=1, the test uses the default heartbeat and logs the
// seconds for all proxies.
func TestProxyLeave(t *testing.T) {
	t.Parallel()
	long := os.Getenv("PRESENCE_TEST_LONG") != ""
	blocks := proxyBlocks(t)
	if t.Failed() {
		return
	}
	leaves := func(name string, p proxy, block string) {
		if p.late == [3]int{} && !long {
			return // TestProxy checks that the server detects this immediately
		}
		if testing.Short() && name != "lighttpd" {
			return // one proxy is enough as a smoke test
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if long {
				p.leave(t, block, 15*time.Second, 12)
			} else {
				p.leave(t, block, time.Second, 1)
			}
		})
	}
	for name, p := range proxies {
		leaves(name, p, blocks[name][0])
	}
	for _, other := range []struct {
		name, proxy, old, new string
		late                  [3]int
	}{
		{"haproxy without abortonclose", "haproxy", "option abortonclose", "", [3]int{1: 2}},
		{"varnish with pass", "vcl", "return (pipe)", "return (pass)", [3]int{1: 3}},
		{"http-proxy without destroy", "http-proxy.mjs", "proxyReq.destroy()", "{}", [3]int{1: never}},
	} {
		block := blocks[other.proxy][0]
		if !strings.Contains(block, other.old) {
			t.Fatalf("no %q in\n%s", other.old, block)
		}
		p := proxies[other.proxy]
		p.late = other.late
		leaves(other.name, p, strings.Replace(block, other.old, other.new, 1))
	}
}

// never is the number of heartbeats after which the test concludes that the proxy keeps closed
// streams open indefinitely.
const never = 5

// leave opens n streams per HTTP version, each in a different room. It closes them at times spread
// over one heartbeat, beginning at a ping, and waits until the server has detected each closed
// stream. Observers that bypass the proxy count the pings until then, so that the speed of the
// machine does not affect the result.
func (p proxy) leave(t *testing.T, block string, heartbeat time.Duration, n int) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience+never*heartbeat)
	defer cancel()
	_, upstream, addr, origin := p.serve(t, block, heartbeat)
	bearer := "Bearer " + must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=alice", "--join=*")
	direct := through(t, upstream, false)

	type result struct {
		version int
		pings   int
		after   time.Duration
		err     error
	}
	results := make(chan result, 2*n)
	streams := 0
	for version := 1; version <= 2; version++ {
		if version == 2 && p.http1 {
			continue
		}
		for i := range n {
			client := through(t, addr, version == 2)
			query := fmt.Sprintf("/events?room=%d.%d", version, i)
			observer := opened(t, ask(t, ctx, direct, "GET", "http://"+upstream+query, "", "Authorization", bearer), 1)
			there, leave := context.WithCancel(ctx)
			stream := opened(t, ask(t, there, client, "GET", origin+p.mount+query, "", compressed("Authorization", bearer)...), version)
			observer.until(t, "user count", "2")
			go io.Copy(io.Discard, stream) // ends when leave is called; unread bytes would turn the FIN into a RST
			streams++
			go func() { // ends with ctx
				_, err := observer.pings("", 1)
				at := time.Now().Add(heartbeat * time.Duration(i) / time.Duration(n))
				time.AfterFunc(time.Until(at), leave)
				pings := 0
				if err == nil {
					pings, err = observer.pings("1", never)
				}
				results <- result{version, pings, time.Since(at), err}
			}()
		}
	}
	var seconds [3][]string
	for range streams {
		r := <-results
		if r.err != nil {
			t.Errorf("HTTP/%d: %v", r.version, r.err)
			continue
		}
		seconds[r.version] = append(seconds[r.version], fmt.Sprintf("%.1f", r.after.Seconds()))
		switch late := p.late[r.version]; {
		case late == never && r.pings < never:
			t.Errorf("HTTP/%d: closed stream detected after %d heartbeats, want never", r.version, r.pings)
		case r.pings > late+min(late, 1): // closing a stream may delay the ping of another stream
			t.Errorf("HTTP/%d: closed stream detected after %d pings, want %d heartbeats", r.version, r.pings, late)
		}
	}
	t.Logf("%s: seconds over HTTP/1.1 %v, over HTTP/2 %v", t.Name(), seconds[1], seconds[2])
}

// pings reads the stream until it contains the given user count or most pings, and returns the
// number of pings. It returns an error if the stream ends before.
func (s stream) pings(count string, most int) (n int, err error) {
	for data := ""; n < most && s.Scan(); {
		field, value, _ := strings.Cut(s.Text(), ": ")
		switch {
		case field == "data":
			data = value
		case s.Text() == "event: ping":
			n++
		case s.Text() == "event: user count" && data == count:
			return n, nil
		}
	}
	if n < most {
		return n, cmp.Or(s.Err(), io.ErrUnexpectedEOF)
	}
	return n, nil
}

// compressed prepends an Accept-Encoding header with the encodings of browsers.
func compressed(headers ...string) []string {
	return append([]string{"Accept-Encoding", "gzip, deflate, br, zstd"}, headers...)
}

// serve starts a server with the given heartbeat, and the proxy in front of it. upstream is the
// address of the server, addr the address of the proxy, and origin the origin of pages behind the
// proxy.
func (p proxy) serve(t *testing.T, block string, heartbeat time.Duration, flags ...string) (server *background, upstream, addr, origin string) {
	t.Helper()
	args := append([]string{"--listen=127.0.0.1:0", "--linger=0s", "--heartbeat=" + heartbeat.String()}, flags...)
	scheme := "https://"
	if p.plain {
		scheme = "http://"
		args = append(args, "--cookie-insecure")
	}
	if p.mount != "" && !p.rootCookie {
		args = append(args, "--cookie-path="+p.mount+"/")
	}
	server, upstream = serving(t, env{"PRESENCE_JWT_SECRET": secret}, args...)
	addr = p.start(t, block, upstream)
	_, port, _ := net.SplitHostPort(addr)
	return server, upstream, addr, scheme + cmp.Or(p.host, "presence.example") + ":" + port
}

// start starts the proxy with a block from the document, in front of the server at upstream. It
// returns the address of the proxy.
func (p proxy) start(t *testing.T, block, upstream string) (addr string) {
	t.Helper()
	program, err := exec.LookPath(p.args[0])
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/" + p.args[0]) // only root has this directory in PATH
	}
	if err != nil {
		t.Fatalf("%s is required (make test installs it on Debian as root): %v", p.args[0], err)
	}
	// Do not listen on 127.0.0.1, because an outgoing connection of another test could take the
	// port there before the proxy listens.
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	host, port, _ := net.SplitHostPort(addr)
	l.Close()

	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certificate(t, cert, key)
	var both []byte
	for _, file := range []string{cert, key} {
		pem, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, pem...)
	}
	packages, err := filepath.Abs("../../web/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range p.imports {
		// Link each package instead of the whole directory, because Vite writes to the directory.
		os.Mkdir(filepath.Join(dir, "node_modules"), 0o755)
		if err := os.Symlink(filepath.Join(packages, name), filepath.Join(dir, "node_modules", name)); err != nil {
			t.Fatal(err)
		}
	}
	_, backend, _ := net.SplitHostPort(upstream)
	test := strings.NewReplacer("PROXY", addr, "HOST", host, "PORT", port, "PRESENCE", upstream, "BACKEND", backend, "DIR", dir,
		"MODULES", packages, "CERT", cert, "KEY", key, "BOTH", write(t, dir, "both.pem", string(both)))
	var change []string
	for pair := range slices.Chunk(p.change, 2) {
		if !strings.Contains(block, pair[0]) {
			t.Fatalf("no %q in\n%s", pair[0], block)
		}
		change = append(change, pair[0], test.Replace(pair[1]))
	}
	block = strings.NewReplacer(change...).Replace(block)
	config := write(t, dir, cmp.Or(p.file, "config"), strings.Replace(test.Replace(p.rest), "BLOCK", block, 1))

	ctx, end := context.WithCancel(context.Background())
	var args []string
	for _, arg := range p.args[1:] {
		args = append(args, test.Replace(arg))
	}
	log := newLines()
	command := exec.CommandContext(ctx, program, append(args, config)...)
	command.Dir = dir
	command.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
	command.Stdout, command.Stderr = log, log
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 5 * time.Second
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // ends with the proxy
		defer close(ended)
		command.Wait()
		log.Close()
	}()
	t.Cleanup(func() {
		end()
		<-ended
		if t.Failed() {
			t.Logf("log of %s:\n%s", p.args[0], log)
		}
	})
	log.find(t, p.ready)
	return addr
}

// through returns a client that connects to addr for every host. With HTTP/2, all requests share
// one connection. With HTTP/1.1, each open stream has a separate connection.
func through(t *testing.T, addr string, http2 bool) *http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		Protocols:       new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetHTTP2(http2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// from returns a client that connects to addr from a local address, for every host.
func from(t *testing.T, local, addr string, major int) *http.Client {
	client := through(t, addr, major == 2)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, addr)
	}
	return client
}

// ask sends a request. The response body is closed no later than when the test ends.
func ask(t *testing.T, ctx context.Context, client *http.Client, method, url, body string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for pair := range slices.Chunk(headers, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// stream is an open event stream that a test reads line by line.
type stream struct {
	*bufio.Scanner
	io.ReadCloser
}

// opened returns the stream of a response. It fails the test if the response is compressed or has
// another HTTP version than major.
func opened(t *testing.T, resp *http.Response, major int) stream {
	t.Helper()
	encoding := resp.Header.Get("Content-Encoding")
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != major || resp.Uncompressed || encoding != "" && encoding != "identity" {
		t.Fatalf("stream: got %s %s %v, want HTTP/%d", resp.Proto, resp.Status, resp.Header, major)
	}
	return stream{bufio.NewScanner(resp.Body), resp.Body}
}

// until reads until an event with the given name whose data contains the given text, and returns
// the ID of the event.
func (s stream) until(t *testing.T, name, data string) (id string) {
	t.Helper()
	for got := ""; s.Scan(); {
		field, value, _ := strings.Cut(s.Text(), ": ")
		switch field {
		case "id":
			id = value
		case "data":
			got = value
		case "event":
			if value == name && strings.Contains(got, data) {
				return id
			}
		}
	}
	t.Fatalf("no event %q with %s: %v", name, data, s.Err())
	return ""
}
