package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// proxy is a program that a block of docs/browser.md configures. In the texts
// here PROXY stands for the address where it is to listen, HOST and PORT for its
// parts, PRESENCE for the server's, CERT and KEY for the files of the
// certificate, BOTH for a file of the two, and DIR for a directory.
type proxy struct {
	change []string // what the document says, and what the test has there, in turns
	rest   string   // the rest of the configuration, around BLOCK
	args   []string // the command line; the configuration's file comes last
	ready  string   // what it logs once its listener is open
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
			BLOCK
			}`,
		args:  []string{"nginx", "-e", "stderr", "-p", "DIR", "-c"},
		ready: "start worker process ",
	},
	"haproxy": {
		change: []string{"bind :443", "bind PROXY", "127.0.0.1:8080", "PRESENCE", "/etc/haproxy/presence.pem", "BOTH"},
		rest:   "BLOCK",
		args:   []string{"haproxy", "-W", "-db", "-f"},
		ready:  "Loading success",
	},
	"caddy": {
		// By itself it fetches a certificate, and listens at port 80 as well.
		change: []string{"presence.example {", "https://presence.example:PORT {\n bind HOST\n tls CERT KEY", "127.0.0.1:8080", "PRESENCE"},
		rest:   "{\n admin off\n auto_https off\n}\nBLOCK",
		args:   []string{"caddy", "run", "--adapter", "caddyfile", "--config"},
		ready:  "serving initial configuration",
	},
}

// What docs/browser.md has one write for a proxy makes it do what is said there.
func TestProxy(t *testing.T) {
	document, err := os.ReadFile("../../docs/browser.md")
	if err != nil {
		t.Fatal(err)
	}
	fenced := regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$").FindAllStringSubmatch(string(document), -1)
	for name, p := range proxies {
		// The first block of a proxy is the whole; the second has in the place of
		// its `location` or `reverse_proxy` what a prefix needs.
		var blocks []string
		for _, block := range fenced {
			if block[1] == name {
				blocks = append(blocks, block[2])
			}
		}
		if len(blocks) == 0 {
			t.Errorf("the document has no block for %s", name)
			continue
		}
		t.Run(name, func(t *testing.T) { p.test(t, blocks[0], "") })
		if len(blocks) > 1 {
			t.Run(name+" below a prefix", func(t *testing.T) {
				part := regexp.MustCompile(`(?m)^\s*(location|reverse_proxy) [^}]*\}\n`)
				if n := len(part.FindAllString(blocks[0], -1)); n != 1 {
					t.Fatalf("%d parts could give way to the one with the prefix", n)
				}
				p.test(t, part.ReplaceAllLiteralString(blocks[0], blocks[1]), "/presence")
			})
		}
	}
}

func (p proxy) test(t *testing.T, block, mount string) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e := env{"PRESENCE_JWT_SECRET": secret}
	// No ping is to bring what the proxy holds back, or to find a client gone
	// that it keeps.
	server, upstream := serving(t, e, "--listen=127.0.0.1:0", "--linger=0s", "--heartbeat=5m")
	addr := p.start(t, block, upstream)
	_, port, _ := net.SplitHostPort(addr)
	origin := "https://presence.example:" + port
	ask := func(ctx context.Context, client *http.Client, method, path, body string, headers ...string) *http.Response {
		t.Helper()
		return ask(t, ctx, client, method, origin+mount+path, body, headers...)
	}
	http1, http2 := through(t, addr, false), through(t, addr, true)
	bearer := "Bearer " + must(t, e, "token", "--sub=bob")

	// Bob is there all the time, and hears what the others cause.
	bob := opened(t, ask(ctx, http1, "GET", "/events", "", "Authorization", bearer), 1)
	bob.until(t, "sync", `{"connections":1,`)
	bob.until(t, "user count", "1")

	// Alice comes with a cookie, which pages of another origin cannot use.
	token := must(t, e, "token", "--sub=alice")
	signIn := func(origin string) *http.Response {
		return ask(ctx, http2, "POST", "/session", `{"token":"`+token+`"}`, "Origin", origin, "Content-Type", "application/json")
	}
	for _, other := range []string{"https://evil.example", "https://presence.example"} {
		if resp := signIn(other); resp.StatusCode != http.StatusForbidden {
			t.Errorf("a page of %s signs in at %s: %s", other, origin, resp.Status)
		}
	}
	resp := signIn(origin)
	if resp.StatusCode != http.StatusNoContent || len(resp.Cookies()) != 1 {
		t.Fatalf("signing in: %s with cookies %v", resp.Status, resp.Cookies())
	}
	cookie := resp.Cookies()[0]
	if cookie.Path != mount+"/" {
		t.Errorf("the cookie is for %s", cookie.Path)
	}
	jar := []string{"Cookie", cookie.Name + "=" + cookie.Value, "Origin", origin}
	there, leave := context.WithCancel(ctx)
	defer leave()
	alice := opened(t, ask(there, http2, "GET", "/events", "", jar...), 2)
	alice.until(t, "sync", `{"connections":2,`)
	alice.until(t, "user count", "2")
	bob.until(t, "user count", "2")

	resp = ask(ctx, http2, "POST", "/messages", "hello", append(jar, "Content-Type", "text/plain")...)
	if resp.StatusCode != http.StatusAccepted {
		t.Errorf("a message: %s", resp.Status)
	}
	alice.until(t, "message", `"data":"hello"`)
	bob.until(t, "message", `"data":"hello"`)

	// Alice closes a stream of a connection that goes on, Carol all she has.
	leave()
	bob.until(t, "user count", "1")
	carol := opened(t, ask(ctx, http1, "GET", "/events", "", "Authorization", bearer), 1)
	bob.until(t, "user count", "2")
	carol.Close()
	bob.until(t, "user count", "1")

	server.end()
	bob.until(t, "goodbye", `{"reason":"draining"}`)
}

// start starts the proxy with a block of the document, in front of the server
// at upstream, and returns its address.
func (p proxy) start(t *testing.T, block, upstream string) (addr string) {
	t.Helper()
	program, err := exec.LookPath(p.args[0])
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/" + p.args[0]) // which only root has in PATH
	}
	if err != nil {
		t.Fatalf("this test needs %s; make test installs it where it can: %v", p.args[0], err)
	}
	// A port of 127.0.0.1 could become another test's, for a connection that it opens.
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
	test := strings.NewReplacer("PROXY", addr, "HOST", host, "PORT", port, "PRESENCE", upstream, "DIR", dir,
		"CERT", cert, "KEY", key, "BOTH", write(t, dir, "both.pem", string(both)))
	var change []string
	for pair := range slices.Chunk(p.change, 2) {
		if !strings.Contains(block, pair[0]) {
			t.Fatalf("there is no %q in\n%s", pair[0], block)
		}
		change = append(change, pair[0], test.Replace(pair[1]))
	}
	block = strings.NewReplacer(change...).Replace(block)
	config := write(t, dir, "config", strings.Replace(test.Replace(p.rest), "BLOCK", block, 1))

	ctx, end := context.WithCancel(context.Background())
	var args []string
	for _, arg := range p.args[1:] {
		args = append(args, test.Replace(arg))
	}
	log := newLines()
	command := exec.CommandContext(ctx, program, append(args, config)...)
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
			t.Logf("%s logs\n%s", p.args[0], log)
		}
	})
	log.find(t, p.ready)
	return addr
}

// through returns a client that reaches whatever host at addr, with one
// connection for all over HTTP/2, or one each over HTTP/1.1.
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

// ask asks, and closes the answer at the end of the test if nothing else does.
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

// heard is a stream as it is read.
type heard struct {
	*bufio.Scanner
	io.Closer
}

// opened returns the stream that was answered with.
func opened(t *testing.T, resp *http.Response, major int) heard {
	t.Helper()
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != major || resp.Uncompressed {
		t.Fatalf("the stream: %s %s %v, want HTTP/%d", resp.Proto, resp.Status, resp.Header, major)
	}
	return heard{bufio.NewScanner(resp.Body), resp.Body}
}

// until reads up to an event of that name with that in its data.
func (h heard) until(t *testing.T, name, data string) {
	t.Helper()
	for got := ""; h.Scan(); {
		if line, ok := strings.CutPrefix(h.Text(), "data: "); ok {
			got = line
		} else if h.Text() == "event: "+name && strings.Contains(got, data) {
			return
		}
	}
	t.Fatalf("no event %q with %s came: %v", name, data, h.Err())
}
