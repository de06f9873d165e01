package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// prober answers the health checks of this process.
type prober struct {
	socket  *net.UnixConn
	running sync.WaitGroup
}

// answerProbes opens the socket of a server that listens at addr.
func answerProbes(addr string, h http.Handler) (*prober, error) {
	name := probePrefix + strconv.Itoa(os.Getpid()) + "/" + addr
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	p := &prober{socket: socket}
	p.running.Go(func() { p.answer(h) }) // ended by close
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
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		if from == nil || from.Name == "" { // it cannot be answered
			continue
		}
		p.socket.SetWriteDeadline(time.Now().Add(time.Second)) // a client that reads nothing holds up the next
		p.socket.WriteToUnix([]byte(strconv.Itoa(healthStatus(h))), from)
	}
}

// probe asks the servers of this machine or container, all of which must be
// alive; found is false if there is none with a socket. Where the environment
// names a port, only the server there is asked, or process 1: a container's flags
// win over its environment.
func probe(port string) (found bool, err error) {
	names, err := probeNames("/proc/net/unix")
	if err != nil {
		return false, nil
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return port != "" && !strings.HasSuffix(name, ":"+port) && !strings.HasPrefix(name, probePrefix+"1/")
	})
	type answer struct {
		own bool // of this container: others may use the same network
		err error
	}
	answers := make([]answer, len(names))
	var asking sync.WaitGroup
	for i, name := range names {
		asking.Go(func() {
			status, own, err := askProbe(name)
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("healthz: %d %s", status, http.StatusText(status))
			}
			answers[i] = answer{own, err}
		})
	}
	asking.Wait()
	var failed error
	for i, a := range answers {
		found = found || a.own
		if a.own && a.err != nil && failed == nil {
			failed = fmt.Errorf("%s: %w", strings.TrimPrefix(names[i], probePrefix), a.err)
		}
	}
	return found, failed
}

// probeNames returns the names of the sockets of servers, as proc(5) lists them.
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

// askProbe asks the server behind a socket. Own is false if the answer does not
// come from the process that the name names, as this container sees it.
func askProbe(name string) (status int, own bool, err error) {
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "", Net: "unixgram"}) // the kernel chooses a name
	if err != nil {
		return 0, false, err
	}
	defer socket.Close()
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, false, err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	}); err != nil || failed != nil {
		return 0, false, errors.Join(err, failed)
	}
	socket.SetDeadline(time.Now().Add(probeTime))
	if _, err := socket.WriteToUnix([]byte("?"), &net.UnixAddr{Name: name, Net: "unixgram"}); err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) { // it ended since
			return 0, false, nil
		}
		return 0, true, err
	}
	answer, control := make([]byte, 16), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	n, oobn, _, _, err := socket.ReadMsgUnix(answer, control)
	if err != nil {
		return 0, true, fmt.Errorf("the server does not answer: %w", err)
	}
	if pid := strings.SplitN(strings.TrimPrefix(name, probePrefix), "/", 2)[0]; pid != senderOf(control[:oobn]) {
		return 0, false, nil
	}
	status, err = strconv.Atoi(string(answer[:n]))
	return status, true, err
}

// senderOf returns the process id that the kernel names as the sender; 0 if it is
// of another container.
func senderOf(control []byte) string {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) == 0 {
		return ""
	}
	who, err := unix.ParseUnixCredentials(&messages[0])
	if err != nil {
		return ""
	}
	return strconv.Itoa(int(who.Pid))
}
