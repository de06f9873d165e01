package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// probePrefix is the name prefix of all health check sockets.
const probePrefix = "@presence-health/"

// prober replies to the health checks of this process.
type prober struct {
	socket  *net.UnixConn
	running sync.WaitGroup
}

// answerProbes opens the health check socket of a server that listens on addr, and starts replying
// to health checks. The caller must call close.
func answerProbes(addr string, h http.Handler) (*prober, error) {
	name := probePrefix + strconv.Itoa(os.Getpid()) + "/" + probeName(addr)
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	p := &prober{socket: socket}
	p.running.Go(func() { p.answer(h) }) // ends with close
	return p, nil
}

func (p *prober) close() {
	p.socket.Close()
	p.running.Wait()
}

func (p *prober) answer(h http.Handler) {
	var question [16]byte
	for {
		_, from, err := p.socket.ReadFromUnix(question[:])
		if err != nil {
			return // closed
		}
		if from == nil || from.Name == "" { // the reply would have no address
			continue
		}
		// A client that does not read its reply must not delay the next client for long.
		p.socket.SetWriteDeadline(time.Now().Add(time.Second))
		p.socket.WriteToUnix([]byte(strconv.Itoa(healthStatus(h))), from)
	}
}

// probe checks all servers in this container or on this machine. found is false if there is no
// health check socket.
//
// Every server that replies must be alive. A server that does not reply may belong to another
// container on the same network, so its silence is an error only if no server replies.
//
// addr is the address to listen on that the environment sets, or empty. With an address, probe
// checks only the server on that port or Unix socket, and the server in process 1, because in a
// container flags override the environment.
func probe(addr string) (found bool, err error) {
	names, err := probeNames("/proc/net/unix")
	if err != nil {
		return false, nil
	}
	_, port, _ := net.SplitHostPort(addr)
	end := ":" + port
	if strings.HasPrefix(addr, unixPrefix) {
		end = "/" + probeName(addr)
	}
	answers, asked := make(chan probed, len(names)), 0
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, enough := context.WithTimeout(context.Background(), probeTime)
	defer enough()
	for _, name := range names {
		if addr == "" || strings.HasSuffix(name, end) || strings.HasPrefix(name, probePrefix+"1/") {
			asked++
			asking.Go(func() { answers <- askProbe(ctx, name) }) // ends with ctx
		}
	}
	var failed, silent error
	var late <-chan time.Time // when to stop waiting for servers that do not reply
	for range asked {
		select {
		case a := <-answers:
			switch {
			case a.own:
				found = true
				if late == nil {
					late = time.After(probeTime / 10)
				}
				if failed == nil {
					failed = a.err
				}
			case a.err != nil:
				silent = a.err
			}
		case <-late:
			return true, failed
		}
	}
	if found {
		return true, failed
	}
	return silent != nil, silent
}

// probeName returns the part of a health check socket's name that identifies the address of the
// server. A name has at most 107 bytes, and no blanks, which end a field of /proc/net/unix. A long
// path is cut at its beginning.
func probeName(addr string) string {
	const most = 70
	path, isUnix := strings.CutPrefix(addr, unixPrefix)
	if !isUnix {
		return addr
	}
	path = strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return '_'
		}
		return r
	}, path)
	return unixPrefix + path[max(0, len(path)-most):]
}

// probed is the result of the health check of one server.
type probed struct {
	// own reports whether the reply came from the process whose ID is in the socket's name. In
	// another container, that process has a different ID. Unless this user is root, the process
	// must also run as this user.
	own bool
	err error
}

// probeNames returns the names of all health check sockets. path is /proc/net/unix (proc(5)) or a
// copy.
func probeNames(path string) (names []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if name := fields[len(fields)-1]; strings.HasPrefix(name, probePrefix) {
			names = append(names, name)
		}
	}
	return names, lines.Err()
}

// askProbe sends a health check to a socket and waits for the reply until ctx is done.
func askProbe(ctx context.Context, name string) probed {
	pid, addr, _ := strings.Cut(strings.TrimPrefix(name, probePrefix), "/")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"}) // the kernel chooses a name
	if err != nil {
		return probed{err: err}
	}
	defer socket.Close()
	raw, err := socket.SyscallConn()
	if err != nil {
		return probed{err: err}
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	}); err != nil || failed != nil {
		return probed{err: errors.Join(err, failed)}
	}
	defer context.AfterFunc(ctx, func() { socket.SetDeadline(time.Unix(1, 0)) })()
	if _, err := socket.WriteToUnix([]byte("?"), &net.UnixAddr{Name: name, Net: "unixgram"}); err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) { // the server has exited
			return probed{}
		}
		return probed{err: fmt.Errorf("server at %s: health check request failed: %w", addr, err)}
	}
	answer, control := make([]byte, 16), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	n, oobn, _, _, err := socket.ReadMsgUnix(answer, control)
	if err != nil {
		return probed{err: fmt.Errorf("server at %s: no health check response: %w", addr, err)}
	}
	sender := senderOf(control[:oobn])
	if sender == nil || strconv.Itoa(int(sender.Pid)) != pid || int(sender.Uid) != os.Getuid() && os.Getuid() != 0 {
		return probed{}
	}
	if status := string(answer[:n]); status != strconv.Itoa(http.StatusOK) {
		return probed{true, fmt.Errorf("server at %s unhealthy (status %s, want 200)", addr, status)}
	}
	return probed{own: true}
}

// senderOf returns the credentials of the sender that the kernel attached, or nil if there are
// none. A sender in another container has the process ID 0.
func senderOf(control []byte) *unix.Ucred {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) == 0 {
		return nil
	}
	sender, err := unix.ParseUnixCredentials(&messages[0])
	if err != nil {
		return nil
	}
	return sender
}

// healthStatus returns the status with which h responds to GET /healthz.
func healthStatus(h http.Handler) int {
	answer := &statusOnly{header: http.Header{}, status: http.StatusOK}
	h.ServeHTTP(answer, &http.Request{Method: http.MethodGet, Host: "localhost", URL: &url.URL{Path: "/healthz"}, RequestURI: "/healthz", Header: http.Header{}, Body: http.NoBody})
	return answer.status
}

// statusOnly is an [http.ResponseWriter] that stores the status and discards the rest.
type statusOnly struct {
	header http.Header
	status int
}

func (w *statusOnly) Header() http.Header         { return w.header }
func (w *statusOnly) WriteHeader(status int)      { w.status = status }
func (w *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
