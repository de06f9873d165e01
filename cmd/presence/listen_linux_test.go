package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A server on a Unix socket works with all commands. The file has the mode of --listen-mode, and is
// removed at the end.
func TestUnixSocket(t *testing.T) {
	for flag, want := range map[string]fs.FileMode{"": 0o660, "--listen-mode=0600": 0o600, "--listen-mode=777": 0o777} {
		path := filepath.Join(t.TempDir(), "presence with blank.sock")
		e := env{"PRESENCE_JWT_SECRET": secret, "PRESENCE_LISTEN": "unix:" + path}
		server, addr := serving(t, e, strings.Fields(flag)...)
		if addr != "unix:"+path {
			t.Errorf("listening: got addr %s, want unix:%s", addr, path)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|want {
			t.Errorf("%s: got mode %v, %v; want %v", flag, info.Mode(), err, want)
		}
		e["PRESENCE_URL"], e["PRESENCE_TOKEN"] = addr, must(t, e, "token", "--sub=alice")
		watcher := start(t, e, "watch")
		watcher.stdout.find(t, "user count\t1")
		must(t, e, "send", "hello")
		watcher.stdout.find(t, `"data":"hello"`)
		must(t, env{"PRESENCE_LISTEN": addr}, "health") // over the health check socket
		must(t, nil, "health", "--url="+addr)           // over HTTP
		server.end()
		watcher.stdout.find(t, `goodbye`)
		if exit := server.exit(); exit != 0 {
			t.Errorf("exit status %d\n%s", exit, server.stderr)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after the end: got %v, want no file", err)
		}
		if _, stderr, exit := command(t, nil, "health", "--url="+addr); exit != 1 || !strings.Contains(stderr, path) {
			t.Errorf("health without a server: exit status %d, %s", exit, stderr)
		}
		watcher.end()
		watcher.exit()
	}
}

// A long path has a health check socket, too. Its name is shorter than the path.
func TestUnixSocketLongPath(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", strings.Repeat("long", 15))
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := dir + "/" + strings.Repeat("x", maxPath-len(dir)-1)
	server, addr := serving(t, nil, "--dev", "--listen=unix:"+path)
	must(t, env{"PRESENCE_LISTEN": addr}, "health")
	if strings.Contains(server.stderr.String(), "health check socket unavailable") {
		t.Errorf("no health check socket:\n%s", server.stderr)
	}
	if !strings.Contains(server.stderr.String(), `"url":"unix:`+path) {
		t.Errorf("no url in the log:\n%s", server.stderr)
	}
}

// A server replaces the socket file of a server that was killed. It does not replace the file of a
// server that runs, or any other file.
func TestUnixSocketReplacesStaleFile(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/s"
	killed, _, _ := serveProcess(t, "--listen=unix:"+path)
	killed.Process.Kill()
	killed.Wait()
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("after the kill: %v", err)
	}
	_, addr := serving(t, nil, "--dev", "--listen=unix:"+path)
	link := dir + "/link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for other, want := range map[string]string{
		path:                          "address in use",
		write(t, dir, "file", "text"): "file exists and is not a socket",
		dir:                           "file exists and is not a socket",
		link:                          "file exists and is not a socket",
		dir + "/none/s":               "no such file or directory",
	} {
		before, _ := os.Lstat(other)
		_, stderr, exit := command(t, nil, "serve", "--dev", "--listen=unix:"+other)
		if exit != 1 || !strings.Contains(stderr, want) || !strings.Contains(stderr, "--listen: unix:"+other) {
			t.Errorf("%s: exit status %d, %s; want %q", other, exit, stderr, want)
		}
		if after, _ := os.Lstat(other); before != nil && (after == nil || !os.SameFile(before, after)) {
			t.Errorf("%s was removed", other)
		}
	}
	must(t, nil, "health", "--url="+addr)
}

// From the first successful connect on, the file has its mode, with any umask.
func TestUnixSocketModeHasNoGap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			before, _ := os.Lstat(path)
			if conn, err := net.Dial("unix", path); err == nil {
				info, err := os.Lstat(path)
				conn.Close()
				// The connection may be to the listener before, and info of the next file.
				same := before != nil && err == nil && os.SameFile(before, info) && before.ModTime().Equal(info.ModTime())
				if same && info.Mode().Perm() != 0o602 {
					t.Errorf("got mode %v after a connect, want 0602", info.Mode().Perm())
					return
				}
			}
		}
	}()
	for range 500 {
		l, err := listenUnix(path, 0o602)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	close(stop)
	<-done
}

// Of several servers that start at the same time in place of one that was killed, one listens.
func TestUnixSocketRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 150 {
		stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		stale.SetUnlinkOnClose(false)
		stale.Close()
		results := make(chan net.Listener, 8)
		for range cap(results) {
			go func() { // ends with its result
				l, _ := listenUnix(path, 0o600)
				results <- l
			}()
		}
		var listening []net.Listener
		for range cap(results) {
			if l := <-results; l != nil {
				listening = append(listening, l)
			}
		}
		if len(listening) != 1 {
			t.Errorf("got %d listeners, want 1", len(listening))
		}
		for _, l := range listening {
			l.Close()
		}
		os.Remove(path)
	}
}

// A lock of another process delays the start, and does not prevent it.
func TestUnixSocketLockedDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	l, err := listenUnix(dir+"/s", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// A server that ends leaves the socket file of another one that has replaced it.
func TestUnixSocketOfAnotherServer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	first, err := listenUnix(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := listenUnix(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	first.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("second server after the end of the first: %v", err)
	}
	conn.Close()
}

// activated starts a server process with the files that systemd would pass, from descriptor 3 on.
func activated(t *testing.T, files []*os.File, args ...string) (server *exec.Cmd, log *lines) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log = newServerLog(t)
	// LISTEN_PID is the process ID of the server, which only the shell that becomes it knows.
	server = exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, self,
		"serve", "--dev", "--log-format=json", "--listen=systemd"}, args...)...)
	server.Env = []string{asCommand + "=1", "PRESENCE_JWT_SECRET=" + secret, fmt.Sprint("LISTEN_FDS=", len(files))}
	server.Stderr = log
	server.ExtraFiles = files
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Kill(); server.Wait(); log.Close() })
	return server, log
}

// The server notifies systemd when it listens, for units with Type=notify.
func TestSystemdNotified(t *testing.T) {
	t.Parallel()
	at, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: t.TempDir() + "/notify", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := newServerLog(t)
	server := exec.Command(self, "serve", "--dev", "--log-format=json", "--listen=127.0.0.1:0")
	server.Env = []string{asCommand + "=1", "NOTIFY_SOCKET=" + at.LocalAddr().String()}
	server.Stderr = log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Kill(); server.Wait(); log.Close() })
	at.SetReadDeadline(time.Now().Add(patience))
	text := make([]byte, 100)
	n, err := at.Read(text)
	if err != nil || string(text[:n]) != "READY=1" {
		t.Fatalf("got %q, %v; want READY=1\n%s", text[:n], err, log)
	}
	log.find(t, `"msg":"listening"`)
}

// With --listen systemd, the server uses the passed socket, which stays open for the next start.
func TestSystemdSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": path} {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		file, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for range 2 {
			server, log := activated(t, []*os.File{file})
			var line struct{ Addr, URL string }
			if err := json.Unmarshal([]byte(log.find(t, `"listening"`)), &line); err != nil {
				t.Fatal(err)
			}
			want, url := l.Addr().String(), "http://"+l.Addr().String()
			if network == "unix" {
				want, url = "unix:"+path, "unix:"+path
			}
			if line.Addr != want || line.URL != url {
				t.Errorf("%s: got %+v, want addr %s and url %s", network, line, want, url)
			}
			must(t, nil, "health", "--url="+url)
			server.Process.Signal(syscall.SIGTERM)
			if err := server.Wait(); err != nil {
				t.Errorf("%s: %v\n%s", network, err, log)
			}
			if _, err := os.Lstat(path); network == "unix" && err != nil {
				t.Errorf("after the end: %v, want the socket of systemd", err)
			}
		}
	}
}

// The errors of --listen systemd state the problem.
func TestSystemdSocketErrors(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tcp, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	connected, peer := os.NewFile(uintptr(fds[0]), "connected"), os.NewFile(uintptr(fds[1]), "peer")
	defer connected.Close()
	defer peer.Close()
	text, err := os.Open(write(t, t.TempDir(), "text", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	for _, tt := range []struct {
		files []*os.File
		args  []string
		exit  int
		want  string
	}{
		{nil, nil, 1, "--listen systemd: no socket passed"},
		{[]*os.File{tcp, tcp}, nil, 1, "--listen systemd: too many sockets passed (2, maximum 1)"},
		{[]*os.File{connected}, nil, 1, "--listen systemd: passed socket is not a listening stream socket"},
		{[]*os.File{text}, nil, 1, "--listen systemd: passed file is not a socket"},
		{[]*os.File{tcp}, []string{"--proxy-protocol"}, 2, "--proxy-protocol requires --trusted-proxies"},
	} {
		server, log := activated(t, tt.files, tt.args...)
		log.find(t, tt.want)
		if server.Wait(); server.ProcessState.ExitCode() != tt.exit {
			t.Errorf("%s: got exit status %d, want %d", tt.want, server.ProcessState.ExitCode(), tt.exit)
		}
	}
	if _, stderr, exit := command(t, nil, "serve", "--dev", "--listen=systemd"); exit != 1 || !strings.Contains(stderr, "no socket passed") {
		t.Errorf("exit status %d, %s; want no socket passed", exit, stderr)
	}
}

// The flags of the PROXY protocol and of HTTP/2 without TLS reach the server.
func TestProxyProtocolAndH2C(t *testing.T) {
	t.Parallel()
	e := env{"PRESENCE_JWT_SECRET": secret, "PRESENCE_TRUSTED_PROXIES": "10.0.0.0/8,127.0.0.1"}
	_, addr := serving(t, e, "--listen=127.0.0.1:0", "--proxy-protocol", "--h2c", "--max-connections-per-address=1")
	path := filepath.Join(t.TempDir(), "s")
	_, unixAddr := serving(t, e, "--listen=unix:"+path, "--proxy-protocol", "--h2c")
	for network, to := range map[string]string{"tcp": addr, "unix": strings.TrimPrefix(unixAddr, "unix:")} {
		for _, header := range []string{"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n", ""} {
			conn, err := net.Dial(network, to)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			io.WriteString(conn, header+"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if header == "" != (err != nil) || err == nil && response.StatusCode != http.StatusOK {
				t.Errorf("%s, header %q: got %v, %v", network, header, response, err)
			}
		}
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		client := &http.Transport{Protocols: &protocols, DialContext: proxiedDialer(network, to)}
		defer client.CloseIdleConnections()
		request, _ := http.NewRequestWithContext(t.Context(), "GET", "http://presence/healthz", nil)
		response, err := client.RoundTrip(request)
		if err != nil || response.StatusCode != http.StatusOK || response.ProtoMajor != 2 {
			t.Fatalf("%s: got %v, %v; want 200 over HTTP/2", network, response, err)
		}
		response.Body.Close()
	}
}

// proxiedDialer returns a dialer that connects to the address and sends a PROXY header.
func proxiedDialer(network, to string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, to)
		if err == nil {
			_, err = io.WriteString(conn, "PROXY TCP4 203.0.113.8 192.0.2.1 1 2\r\n")
		}
		return conn, err
	}
}
