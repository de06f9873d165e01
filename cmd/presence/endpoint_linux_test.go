package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// listening waits for the line about the address, and returns the address.
func listening(t *testing.T, log *lines) string {
	t.Helper()
	var line struct{ Addr string }
	if err := json.Unmarshal([]byte(log.find(t, `"msg":"listening"`)), &line); err != nil {
		t.Fatal(err)
	}
	return line.Addr
}

// overUnix returns a client that connects to the socket.
func overUnix(t *testing.T, path string) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// countOver opens a stream and waits for the user count.
func countOver(t *testing.T, client *http.Client, base string) io.Closer {
	t.Helper()
	token := must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=alice")
	r, err := http.NewRequestWithContext(t.Context(), "GET", base+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := (&http.Client{Transport: client.Transport}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if lines.Text() == "event: user count" {
			return answer.Body
		}
	}
	t.Fatalf("no user count: %s", answer.Status)
	return nil
}

func TestUnixSocket(t *testing.T) {
	path := t.TempDir() + "/presence.sock"
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()
	secrets := env{"PRESENCE_JWT_SECRET": secret}
	b := start(t, secrets, "serve", "--log-format=json", "--listen=unix:"+path, "--listen-mode=0600")
	if got := listening(t, b.stderr); got != "unix:"+path {
		t.Errorf("got addr %s, want unix:%s", got, path)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("got %v, %v, want a socket with mode 0600", info.Mode(), err)
	}
	client := overUnix(t, path)
	stream := countOver(t, client, "http://presence")
	if got := scrape(t, client, "http://presence/metrics")["presence_connections"]; got != 1 {
		t.Errorf("got %v connections, want 1", got)
	}
	stream.Close()
	eventually(t, patience, "the stream has ended", func() bool { return scrape(t, client, "http://presence/metrics")["presence_connections"] == 0 })

	if _, stderr, exit := command(t, secrets, "serve", "--listen=unix:"+path); exit != 1 || !strings.Contains(stderr, "presence: --listen: "+path+": address already in use") {
		t.Errorf("second server: got exit status %d, %s", exit, stderr)
	}
	b.end()
	if got := b.exit(); got != 0 {
		t.Errorf("got exit status %d, want 0", got)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("socket file: got %v, want it removed", err)
	}
	file := write(t, t.TempDir(), "file", "text")
	if _, stderr, exit := command(t, secrets, "serve", "--listen=unix:"+file); exit != 1 || !strings.Contains(stderr, "is not a socket") {
		t.Errorf("a file: got exit status %d, %s", exit, stderr)
	}
	if text, err := os.ReadFile(file); string(text) != "text" {
		t.Errorf("the file: got %q, %v, want it unchanged", text, err)
	}
}

// systemd passes a socket to the server, and keeps it when the server ends.
func TestSystemdSocket(t *testing.T) {
	path := t.TempDir() + "/passed.sock"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, sockets := range []int{0, 1, 2} {
		log := newLines()
		// The shell has the pid of the server, as LISTEN_PID requires.
		server := exec.Command("sh", "-c", `export LISTEN_PID=$$; exec "$0" serve --log-format=json --listen=systemd`, executable(t))
		server.Env = []string{asCommand + "=1", "PRESENCE_JWT_SECRET=" + secret, fmt.Sprint("LISTEN_FDS=", sockets)}
		for range sockets {
			server.ExtraFiles = append(server.ExtraFiles, file)
		}
		server.Stderr = log
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		if sockets != 1 {
			log.find(t, fmt.Sprintf("presence: --listen: systemd passed %d listening sockets, not 1", sockets))
			if server.Wait(); server.ProcessState.ExitCode() != 1 {
				t.Errorf("%d sockets: got exit status %d, want 1", sockets, server.ProcessState.ExitCode())
			}
			log.Close()
			continue
		}
		if got := listening(t, log); got != "unix:"+path {
			t.Errorf("got addr %s, want unix:%s", got, path)
		}
		countOver(t, overUnix(t, path), "http://presence").Close()
		server.Process.Signal(os.Interrupt)
		if err := server.Wait(); err != nil {
			t.Error(err)
		}
		log.Close()
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("socket file: got %v, want it kept", err)
		}
	}
}

// With --h2c, a stream uses HTTP/2 without TLS, and HTTP/1 still works.
func TestH2C(t *testing.T) {
	b := start(t, env{"PRESENCE_JWT_SECRET": secret}, "serve", "--log-format=json", "--listen=127.0.0.1:0", "--h2c")
	base := "http://" + listening(t, b.stderr)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	countOver(t, &http.Client{Transport: transport}, base)
	countOver(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, base)
}

// The address in a PROXY header is the one in the log. A peer that is not a trusted proxy must not
// send a header.
func TestProxyProtocol(t *testing.T) {
	for trusted, want := range map[string]string{"127.0.0.0/8": "HTTP/1.1 401", "192.0.2.1": "HTTP/1.1 400"} {
		b := start(t, env{"PRESENCE_JWT_SECRET": secret}, "serve", "--log-format=json", "--log-level=debug", "--listen=127.0.0.1:0",
			"--proxy-protocol", "--trusted-proxies="+trusted)
		conn, err := net.Dial("tcp", listening(t, b.stderr))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, "PROXY TCP4 198.51.100.7 203.0.113.1 1234 80\r\nGET /presence HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), want) {
			t.Errorf("trusted %s: got %q, %v, want %s", trusted, answer, err, want)
		}
		if strings.HasSuffix(want, "401") {
			b.stderr.find(t, `"client_address":"198.51.100.7"`)
		}
	}
}

func TestListenErrors(t *testing.T) {
	for args, want := range map[string]string{
		"--listen=unix:":                           `--listen: "unix:" has no path: the form is unix:/run/presence.sock`,
		"--listen=unix:/x --listen-mode=888":       `--listen-mode is an octal mode from 0000 to 0777, such as 0660, not "888"`,
		"--listen=unix:/x --listen-mode=1777":      `--listen-mode is an octal mode from 0000 to 0777, such as 0660, not "1777"`,
		"--listen-mode=0600":                       "--listen-mode requires --listen unix:/path",
		"--proxy-protocol":                         "--proxy-protocol requires --trusted-proxies: the addresses of the proxies that send the header",
		"--trusted-proxies=10.0.0.1/8":             `--trusted-proxies: "10.0.0.1/8" is not an address, or a network such as 10.0.0.0/8 without host bits`,
		"--trusted-proxies=proxy":                  `--trusted-proxies: "proxy" is not an address`,
		"--h2c --tls-cert=x --tls-key=y":           "--h2c and --tls-cert are mutually exclusive: with TLS, the server always speaks HTTP/2",
		"--metrics-listen=9090":                    `--metrics-listen: "9090" is not [host]:port with a port from 0 to 65535`,
		"--trusted-proxies=::1 --listen=host:port": `--listen: "host:port" is not [host]:port with a port from 0 to 65535`,
	} {
		_, stderr, exit := command(t, env{"PRESENCE_JWT_SECRET": secret}, append([]string{"serve"}, strings.Fields(args)...)...)
		if exit != 2 || !strings.Contains(stderr, "presence: "+want) {
			t.Errorf("%s: got exit status %d, %s; want 2 and %s", args, exit, stderr, want)
		}
	}
}
