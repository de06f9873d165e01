package main

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fronted is a server behind a proxy that names the client in a PROXY header, or that uses a Unix
// socket.
type fronted struct {
	block  string   // configuration of the proxy
	proxy  proxy    // how to run it
	args   []string // flags of the server
	unix   bool     // the server listens on a Unix socket
	tls    bool     // the server ends TLS, and clients use HTTP/2
	secure bool     // the proxy ends TLS
	alice  string   // logged address of a client at 127.0.0.9 that sends X-Forwarded-For: 198.51.100.1
}

// frontedServers returns the cases of TestListenBehindProxy. Most blocks are from docs/proxies.md.
func frontedServers(t *testing.T) map[string]fronted {
	t.Helper()
	blocks := proxyBlocks(t)
	block := func(name string) string {
		if len(blocks[name]) != 1 {
			t.Fatalf("got %d blocks %s in docs/proxies.md, want 1", len(blocks[name]), name)
		}
		return blocks[name][0]
	}
	changed := func(text, from, to string) string {
		if !strings.Contains(text, from) {
			t.Fatalf("no %q in\n%s", from, text)
		}
		return strings.Replace(text, from, to, 1)
	}

	haproxy := proxies["haproxy"]
	haproxy.rest = "global\n log stdout format raw local0\ndefaults\n log global\nBLOCK"
	overTCP, overUnix := haproxy, haproxy
	overTCP.change = []string{":443", "PROXY", "127.0.0.1:8080", "PRESENCE"}
	overUnix.change = []string{":443", "PROXY", "/etc/haproxy/presence.pem", "BOTH", "/run/presence.sock", "PRESENCE"}
	checked := overTCP
	checked.ready = "Health check for server presence/presence succeeded"
	elsewhere := checked
	elsewhere.change = slices.Concat(overTCP.change, []string{"port 8080", "port BACKEND"}) // HAProxy then sends no header
	nginx := proxies["nginx"]
	nginx.change = []string{"listen 443", "listen PROXY", "/etc/ssl/presence.pem", "CERT", "/etc/ssl/presence.key", "KEY", "/run/presence.sock", "PRESENCE"}
	nginx.rest = "user root; " + nginx.rest // may open the socket in the directory of the test
	stream := nginx
	stream.change = []string{"listen 443", "listen PROXY", "127.0.0.1:8080", "PRESENCE"}
	stream.rest = "load_module /usr/lib/nginx/modules/ngx_stream_module.so; daemon off; pid DIR/pid; error_log stderr notice; events {}\nBLOCK"

	serve := regexp.MustCompile(`(?m)^presence serve (--proxy-protocol .*) --tls-cert \S+ --tls-key \S+$`).FindStringSubmatch(strings.Join(blocks["sh"], ""))
	if serve == nil {
		t.Fatal("no command with --proxy-protocol and --tls-cert in docs/proxies.md")
	}
	proxied := strings.Fields(serve[1])
	v2 := block("tcp.cfg")
	v1 := changed(v2, "send-proxy-v2", "send-proxy")
	last := regexp.MustCompile(`(?m)^    server .*\n`)
	unix := last.ReplaceAllLiteralString(blocks["haproxy"][0], block("unix.cfg"))
	location := regexp.MustCompile(`(?m)^\s*location [^}]*\}\n`)
	return map[string]fronted{
		"HAProxy, version 1":                   {block: v1, proxy: overTCP, args: proxied, alice: "127.0.0.9"},
		"HAProxy, version 2, HTTP/2":           {block: v2, proxy: overTCP, args: proxied, tls: true, alice: "127.0.0.9"},
		"HAProxy, version 1, checks TCP":       {block: changed(v1, "send-proxy", "send-proxy check inter 200ms rise 1 fall 100\n    timeout check 30s\n    option log-health-checks"), proxy: checked, args: proxied, alice: "127.0.0.9"},
		"HAProxy, version 2, checks HTTP":      {block: changed(v2, "send-proxy-v2", "send-proxy-v2 check inter 200ms rise 1 fall 100\n    timeout check 30s\n    option log-health-checks\n    option httpchk GET /readyz"), proxy: checked, args: proxied, alice: "127.0.0.9"},
		"HAProxy, version 2, checks no header": {block: changed(v2, "send-proxy-v2", "send-proxy-v2 check port 8080 inter 200ms rise 1 fall 100\n    timeout check 30s\n    option log-health-checks"), proxy: elsewhere, args: proxied, alice: "127.0.0.9"},
		"HAProxy, version 2, shared":           {block: changed(v2, "mode tcp", "mode http\n    option abortonclose\n    http-reuse always"), proxy: overTCP, args: proxied, alice: "127.0.0.9"},
		"HAProxy, Unix socket":                 {block: unix, proxy: overUnix, args: []string{"--trusted-proxies=127.0.0.9"}, unix: true, secure: true, alice: "198.51.100.1"},
		"HAProxy, Unix socket, no trust":       {block: unix, proxy: overUnix, unix: true, secure: true, alice: "127.0.0.9"},
		"HAProxy, Unix socket, version 2":      {block: changed(changed(unix, ".sock", ".sock send-proxy-v2"), "    option forwardfor\n", ""), proxy: overUnix, args: []string{"--proxy-protocol"}, unix: true, secure: true, alice: "127.0.0.9"},
		"nginx, version 1":                     {block: block("stream.conf"), proxy: stream, args: proxied, alice: "127.0.0.9"},
		"nginx, version 1, HTTP/2":             {block: block("stream.conf"), proxy: stream, args: proxied, tls: true, alice: "127.0.0.9"},
		"nginx, Unix socket":                   {block: location.ReplaceAllLiteralString(blocks["nginx"][0], block("unix.conf")), proxy: nginx, args: []string{"--trusted-proxies=127.0.0.9"}, unix: true, secure: true, alice: "198.51.100.1"},
	}
}

// Behind a proxy that sends PROXY headers, or that uses a Unix socket, the log has the address of
// the client and not one that the client has invented. Streams, messages, leaves and the health
// checks of the proxy work.
func TestListenBehindProxy(t *testing.T) {
	t.Parallel()
	for name, f := range frontedServers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.test(t)
		})
	}
}

func (f fronted) test(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	e, dir := env{"PRESENCE_JWT_SECRET": secret}, t.TempDir()
	args := append([]string{"--linger=0s", "--listen=127.0.0.1:0", "--heartbeat=5m"}, f.args...)
	if f.unix {
		args[1] = "--listen=unix:" + filepath.Join(dir, "s")
	}
	if f.tls {
		certificate(t, dir+"/cert", dir+"/key")
		args = append(args, "--tls-cert="+dir+"/cert", "--tls-key="+dir+"/key")
	}
	server, upstream := serving(t, e, args...)
	addr := f.proxy.start(t, f.block, strings.TrimPrefix(upstream, "unix:"))
	origin, major := "http://"+addr, 1
	if f.tls || f.secure {
		origin, major = "https://"+addr, 2
	}
	// logged waits for a line, and fails unless it has the address of the client.
	logged := func(text, address string) {
		t.Helper()
		var line struct {
			ClientAddress string `json:"client_address"`
		}
		if err := json.Unmarshal([]byte(server.stderr.find(t, text)), &line); err != nil || line.ClientAddress != address {
			t.Errorf("%s: got address %s, %v; want %s", text, line.ClientAddress, err, address)
		}
	}
	token := func(sub string) string { return "Bearer " + must(t, e, "token", "--sub="+sub) }

	forged := []string{"X-Forwarded-For", "198.51.100.1", "Forwarded", "for=198.51.100.1"}
	alice := opened(t, ask(t, ctx, from(t, "127.0.0.9", addr, major), "GET", origin+"/events", "", append(forged, "Authorization", token("alice"))...), major)
	alice.until(t, "user count", "1")
	logged(`"stream opened"`, f.alice)
	bobs, bob := from(t, "127.0.0.10", addr, major), token("bob")
	stream := opened(t, ask(t, ctx, bobs, "GET", origin+"/events", "", "Authorization", bob), major)
	alice.until(t, "user count", "2")
	logged(`"stream opened"`, "127.0.0.10")
	if resp := ask(t, ctx, bobs, "POST", origin+"/messages", "hello", "Authorization", bob, "Content-Type", "text/plain"); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("message: got %s, want 202", resp.Status)
	}
	logged(`"path":"/messages"`, "127.0.0.10")
	alice.until(t, "message", `"data":"hello"`)
	stream.until(t, "message", `"data":"hello"`)
	stream.Close()
	alice.until(t, "user count", "1")
	server.end()
	alice.until(t, "goodbye", `{"reason":"draining"}`)
	server.exit()
	if log := server.stderr.String(); strings.Contains(log, `"WARN"`) || strings.Contains(log, `"ERROR"`) {
		t.Errorf("got a warning:\n%s", log)
	}
}
