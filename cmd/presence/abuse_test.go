//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"
)

// Each test runs one attack against the command, which runs in a separate process. Before the
// server had a limit against an attack, its effect lasted for minutes or forever.

// target is the server that a test attacks.
type target struct {
	addr    string
	token   string // of a user that may join and send to every room
	process *os.Process
	tls     bool
}

// startTarget starts a server, with TLS if withTLS is set. files is its open-file limit; 0 means
// the open-file limit of the test.
func startTarget(t *testing.T, withTLS bool, files int, args ...string) *target {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"serve", "--log-format=json", "--log-level=debug", "--listen=127.0.0.1:0"}, args...)
	if withTLS {
		dir := t.TempDir()
		certificate(t, dir+"/cert.pem", dir+"/key.pem")
		args = append(args, "--tls-cert="+dir+"/cert.pem", "--tls-key="+dir+"/key.pem")
	}
	command := append([]string{self}, args...)
	if files > 0 {
		command = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, files)}, command...)
	}
	log := newServerLog(t)
	server := exec.Command(command[0], command[1:]...)
	server.Env = []string{asCommand + "=1", "PRESENCE_JWT_SECRET=" + secret}
	server.Stderr = log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Kill(); server.Wait(); log.Close() })
	var line struct{ Addr string }
	if err := json.Unmarshal([]byte(log.find(t, `"listening"`)), &line); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the log
		for range log.next {
		}
	}()
	token := must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=alice", "--join=*", "--send=*", "--admin")
	return &target{line.Addr, token, server.Process, withTLS}
}

// transports returns whether the servers use TLS: with -short all do, otherwise also none.
func transports() []bool {
	return sized([]bool{true}, []bool{false, true}, []bool{false, true})
}

// dial opens a TCP connection to the server. buffer is the size of its receive buffer in bytes; 0
// means the default.
func (s *target) dial(t *testing.T, buffer int) net.Conn {
	t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			if buffer > 0 {
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
			}
		})
	}}
	conn, err := dialer.DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// connect calls dial and, if the server has TLS, completes the TLS handshake.
func (s *target) connect(t *testing.T, buffer int, protocols ...string) net.Conn {
	t.Helper()
	conn := s.dial(t, buffer)
	if !s.tls {
		return conn
	}
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
	if err := secure.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return secure
}

// send writes a request. It replaces %s in the request with the Authorization header.
func (s *target) send(t *testing.T, conn net.Conn, request string) {
	t.Helper()
	if strings.Contains(request, "%s") {
		request = fmt.Sprintf(request, "Authorization: Bearer "+s.token)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
}

// open opens a stream and returns when the first user count arrives.
func (s *target) open(t *testing.T, room string) net.Conn {
	t.Helper()
	conn := s.connect(t, 0)
	s.send(t, conn, "GET /events?room="+room+" HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n")
	conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if lines.Text() == "event: user count" {
			return conn
		}
	}
	t.Fatalf("no user count in the stream: %v", lines.Err())
	return nil
}

// post sends a message and returns the status of the response, or 0 if there was none.
func (s *target) post(t *testing.T, room, text string) int {
	t.Helper()
	conn := s.connect(t, 0)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	s.send(t, conn, "POST /messages?room="+room+" HTTP/1.1\r\nHost: localhost\r\n%s\r\n"+
		"Content-Type: text/plain\r\nContent-Length: "+strconv.Itoa(len(text))+"\r\n\r\n"+text)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	answer.Body.Close()
	return answer.StatusCode
}

// memory returns the resident set of the server, in bytes.
func (s *target) memory(t *testing.T) int {
	t.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// sockets returns the unsent bytes in each socket of the server, keyed by the port of the peer. It
// skips the listener and sockets in TIME-WAIT (proc(5), /proc/net/tcp).
func (s *target) sockets(t *testing.T) map[int]int {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(s.addr)
	local, _ := strconv.Atoi(port)
	found := map[int]int{}
	for _, line := range strings.Split(string(table), "\n")[1:] {
		fields := strings.Fields(line)
		if len(fields) < 5 || !strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", local)) || fields[3] == "06" || fields[3] == "0A" {
			continue
		}
		peer, _ := strconv.ParseInt(fields[2][strings.Index(fields[2], ":")+1:], 16, 32)
		queued, _ := strconv.ParseInt(fields[4][:strings.Index(fields[4], ":")], 16, 64)
		found[int(peer)] = int(queued)
	}
	return found
}

func port(conn net.Conn) int { return conn.LocalAddr().(*net.TCPAddr).Port }

// A peer that never opens the HTTP/2 flow-control window cannot make the server buffer all
// responses.
func TestAbuseHTTP2Window(t *testing.T) {
	t.Parallel()
	s := startTarget(t, true, 0)
	before := s.memory(t)
	const conns, requests = 8, 250
	var rejected, reset [conns]int
	var running sync.WaitGroup
	for i := range conns {
		conn := s.connect(t, 0, "h2")
		io.WriteString(conn, http2.ClientPreface)
		framer := http2.NewFramer(conn, conn)
		framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		var block bytes.Buffer
		fields := hpack.NewEncoder(&block)
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "presence"}, {":path", "/presence.js"}} {
			fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		running.Go(func() {
			for n := 0; rejected[i]+reset[i] < requests; {
				conn.SetReadDeadline(time.Now().Add(40 * time.Second))
				frame, err := framer.ReadFrame()
				if err != nil {
					t.Errorf("connection %d: %d responses rejected, %d reset, %v", i, rejected[i], reset[i], err)
					return
				}
				switch f := frame.(type) {
				case *http2.SettingsFrame:
					if f.IsAck() {
						continue
					}
					if most, ok := f.Value(http2.SettingMaxConcurrentStreams); !ok || most < 128 || most > 250 {
						t.Errorf("MAX_CONCURRENT_STREAMS is %d, want 128 to 250", most)
					}
					framer.WriteSettingsAck()
					for ; n < requests; n++ { // the block uses only the static table, so it can be sent again
						framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*n + 1), BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
					}
				case *http2.RSTStreamFrame:
					if f.ErrCode == http2.ErrCodeRefusedStream || f.ErrCode == http2.ErrCodeProtocol {
						rejected[i]++
					} else {
						reset[i]++
					}
				}
			}
		})
	}
	most := 0
	done := make(chan struct{})
	go func() { running.Wait(); close(done) }()
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for open := true; open; {
		select {
		case <-done:
			open = false
		case <-ticks.C:
			most = max(most, s.memory(t))
		}
	}
	for i := range conns {
		if reset[i] < 100 || rejected[i] == 0 {
			t.Errorf("connection %d: %d responses reset, %d rejected", i, reset[i], rejected[i])
		}
	}
	// Of the 2,000 requests, 1,024 are in progress and use 15 KB each. Without the limit, they used
	// 45 KB each.
	if grown := most - before; grown > raceFactor*40<<20 {
		t.Errorf("memory grew by %d MB for %d connections, want at most %d MB", grown>>20, conns, raceFactor*40)
	}
}

// Every handler closes the connection of a request whose header or body never arrives.
func TestAbuseUnfinishedRequests(t *testing.T) {
	t.Parallel()
	requests := map[string]string{
		"OPTIONS *":        "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n",
		"preflight":        "OPTIONS /events HTTP/1.1\r\nHost: localhost\r\nOrigin: https://x.example\r\nAccess-Control-Request-Method: GET\r\nContent-Length: 100\r\n\r\n",
		"message":          "POST /messages HTTP/1.1\r\nHost: localhost\r\n%s\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n",
		"rejected message": "POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n",
		"static file":      "GET /presence.js HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n",
		"stream":           "GET /events HTTP/1.1\r\nHost: localhost\r\n%s\r\nContent-Length: 100\r\n\r\n",
		"partial header":   "GET /presence.js HTTP/1.1\r\nHost: pre",
		"empty":            "",
		"chunked body":     "POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
		"second request":   "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /presence.js HTTP",
	}
	for _, withTLS := range transports() {
		s := startTarget(t, withTLS, 0, "--cors-origin=https://x.example")
		for name, request := range requests {
			t.Run(fmt.Sprintf("%s, TLS %v", name, withTLS), func(t *testing.T) {
				t.Parallel()
				conn := s.connect(t, 0)
				s.send(t, conn, request)
				conn.SetReadDeadline(time.Now().Add(20 * time.Second)) // the limit is 10 s; 10 s more for a busy machine
				if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("connection still open after 20 s")
				}
			})
		}
	}
}

// The server limits idle connections, so that they leave enough file descriptors for streams and
// health checks.
func TestAbuseConnections(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"silent":     "",
		"half":       "GET /presence.js HTTP/1.1\r\n",
		"unfinished": "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n",
		"idle":       "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startTarget(t, false, 500)
			_, at, _ := net.SplitHostPort(s.addr)
			var attack []net.Conn
			for range 600 {
				conn := s.dial(t, 0)
				io.WriteString(conn, request)
				attack = append(attack, conn)
			}
			for i := range 5 {
				stream := s.open(t, "lobby")
				if status := s.post(t, "lobby", "hello"); status != http.StatusAccepted {
					t.Errorf("message %d: got status %d, want 202", i, status)
				}
				must(t, env{"PORT": at}, "health")
				stream.Close()
			}
			eventually(t, 30*time.Second, "at most 130 connections remain (limit 125)", func() bool { return len(s.sockets(t)) <= 130 })
			for _, conn := range attack {
				conn.Close()
			}
		})
	}
}

// A client that pipelines requests without reading the responses uses little kernel memory, and
// only for a short time.
func TestAbusePipelining(t *testing.T) {
	t.Parallel()
	for _, withTLS := range transports() {
		t.Run(fmt.Sprintf("TLS %v", withTLS), func(t *testing.T) {
			t.Parallel()
			s := startTarget(t, withTLS, 0)
			conn := s.connect(t, 4096)
			s.send(t, conn, strings.Repeat("GET /presence.js HTTP/1.1\r\nHost: localhost\r\n\r\n", 100))
			peer, most := port(conn), 0
			var sizes []int // unsent bytes, each time they changed
			// The server closes it after 15 s without progress.
			if !poll(100*time.Millisecond, 80*time.Second, func() bool {
				queued, there := s.sockets(t)[peer]
				if len(sizes) == 0 || queued != sizes[len(sizes)-1] {
					sizes = append(sizes, queued)
				}
				most = max(most, queued)
				return !there
			}) {
				t.Fatalf("connection still open after 80 s; unsent bytes: %d", sizes)
			}
			if most < 4096 || most > 128<<10 {
				t.Errorf("got %d unsent bytes in the kernel, want %d to %d", most, 4096, 128<<10)
			}
		})
	}
}

// The server frees the socket of a stream soon after the stream ends, even if the peer does not
// read.
func TestAbuseSocketsAfterTheEnd(t *testing.T) {
	t.Parallel()
	for _, withTLS := range transports() {
		for _, end := range []string{"slow", "removed", "expired"} {
			t.Run(fmt.Sprintf("%s, TLS %v", end, withTLS), func(t *testing.T) {
				t.Parallel()
				unsent, life := "1MiB", "1h"
				switch end {
				case "slow":
					unsent = "64KiB"
				case "expired":
					life = "10s" // time for the streams and the messages
				}
				s := startTarget(t, withTLS, 0, "--max-message=16KiB", "--max-unsent="+unsent, "--message-rate=0")
				watch := newLines()
				defer watch.Close()
				go func() { // ends with watch
					for range watch.next {
					}
				}()
				go io.Copy(watch, s.open(t, "lobby")) // ends with the connection
				await := func(what, pattern string) {
					t.Helper()
					eventually(t, 40*time.Second, what, func() bool { return regexp.MustCompile(pattern).MatchString(watch.String()) })
				}
				var streams []net.Conn
				peers := map[int]bool{}
				for range 10 {
					conn := s.connect(t, 4096)
					streams = append(streams, conn)
					peers[port(conn)] = true
				}
				open := func() (n int) {
					for peer := range s.sockets(t) {
						if peers[peer] {
							n++
						}
					}
					return n
				}
				victim := must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=mallory", "--join=*", "--ttl="+life)
				for _, conn := range streams {
					s.send(t, conn, "GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+victim+"\r\n\r\n")
				}
				await("the streams are counted", `data: 11\nevent: user count`)
				// 17 messages fill the kernel's socket buffers.
				messages := 17
				if end == "slow" {
					messages = 200
				}
				for range messages {
					if status := s.post(t, "lobby", strings.Repeat("x", 16<<10)); status != http.StatusAccepted {
						t.Fatalf("message: got status %d, want 202", status)
					}
				}
				if end == "removed" {
					conn := s.connect(t, 0)
					s.send(t, conn, "DELETE /members/mallory?for=60s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n")
				}
				await("the streams are not counted", `(?s)data: 11\nevent: user count.*data: 1\nevent: user count`)
				// The count falls at the removal or expiry. The stream ends up to 2 s later, after
				// its goodbye, and its socket is free within 10 s of that end.
				eventually(t, 12*time.Second, "all sockets are closed", func() bool { return open() == 0 })
				await("the user leaves", `"id":"mallory".*"reason":"`+end+`"`)
			})
		}
	}
}

// The server does not disconnect a client that reads slowly.
func TestAbuseSparesTheSlow(t *testing.T) {
	t.Parallel()
	for _, withTLS := range transports() {
		s := startTarget(t, withTLS, 0)
		for name, request := range map[string]string{
			"kept":   "GET /presence.js HTTP/1.1\r\nHost: localhost\r\n\r\n",
			"closed": "GET /presence.js HTTP/1.0\r\nHost: localhost\r\n\r\n",
		} {
			t.Run(fmt.Sprintf("%s, TLS %v", name, withTLS), func(t *testing.T) {
				t.Parallel()
				conn := s.connect(t, 4096)
				s.send(t, conn, request)
				// For longer than all deadlines of a stalled peer, the client reads two pieces of a
				// few KB every 4 s. Then it reads the rest.
				slow := &pausing{r: conn, until: time.Now().Add(25 * time.Second)}
				answer, err := http.ReadResponse(bufio.NewReaderSize(slow, 1<<10), nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(answer.Body)
				if err != nil || int64(len(body)) != answer.ContentLength || len(body) < 40_000 {
					t.Errorf("got %d of %d bytes, %v", len(body), answer.ContentLength, err)
				}
			})
		}
	}
}

// pausing is a reader that returns at most 1 KB per 0.7 s until the time in until. Then it reads at
// full speed.
type pausing struct {
	r     io.Reader
	until time.Time
}

func (p *pausing) Read(b []byte) (int, error) {
	if time.Now().Before(p.until) {
		<-time.After(700 * time.Millisecond)
		b = b[:min(len(b), 1<<10)]
	}
	return p.r.Read(b)
}

// The health check finds servers that are configured by flags, also with TLS. It fails if the
// server on $PORT does not respond. It ignores any other server that does not respond, because that
// server may belong to another container.
func TestHealthFindsTheServer(t *testing.T) {
	s := startTarget(t, true, 0)
	other := startTarget(t, false, 0)
	must(t, nil, "health")
	for _, server := range []*target{s, other} {
		_, at, _ := net.SplitHostPort(server.addr)
		must(t, env{"PORT": at}, "health")
		server.process.Signal(syscall.SIGSTOP)
		if _, stderr, exit := command(t, env{"PORT": at}, "health"); exit != 1 || !strings.Contains(stderr, server.addr) {
			t.Errorf("health of a stopped server: exit status %d, %s", exit, stderr)
		}
		must(t, nil, "health")
		server.process.Signal(syscall.SIGCONT)
	}
}
