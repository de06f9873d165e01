package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
)

// endpoint is the value of --listen: where the server accepts connections.
type endpoint struct {
	network string // tcp, unix or systemd
	address string // host and port, or the path of the socket; empty for systemd
}

// systemdListen is the value of --listen for a socket that systemd has opened.
const systemdListen = "systemd"

// parseEndpoint returns the endpoint for the value of --listen. port is the value of $PORT. With
// dev and without a value, the host is 127.0.0.1.
func parseEndpoint(listen, port string, dev bool) (endpoint, error) {
	if listen == systemdListen {
		return endpoint{network: systemdListen}, nil
	}
	if path, isUnix := strings.CutPrefix(listen, "unix:"); isUnix {
		if path == "" || strings.ContainsRune(path, 0) {
			return endpoint{}, usagef("--listen: %q has no path: the form is unix:/run/presence.sock", listen)
		}
		return endpoint{"unix", path}, nil
	}
	addr, err := address(listen, port, dev)
	return endpoint{"tcp", addr}, err
}

// endpoint returns the endpoint and the mode of a Unix socket, or a usage error for flags that do
// not belong together.
func (f listenFlags) endpoint(port string, dev bool) (endpoint, fs.FileMode, error) {
	e, err := parseEndpoint(f.Listen, port, dev)
	if err != nil {
		return e, 0, err
	}
	mode, err := parseMode(f.ListenMode)
	switch {
	case err != nil:
		return e, 0, err
	case f.ListenMode != "0660" && e.network != "unix":
		return e, 0, usagef("--listen-mode requires --listen unix:/path")
	case f.ProxyProtocol && e.network == "tcp" && len(f.TrustedProxies) == 0:
		return e, 0, usagef("--proxy-protocol requires --trusted-proxies: the addresses of the proxies that send the header")
	case f.H2C && f.TLSCert != "":
		return e, 0, usagef("--h2c and --tls-cert are mutually exclusive: with TLS, the server always speaks HTTP/2")
	}
	return e, mode, nil
}

// protocols returns the protocols of the server. Nil means the default of net/http: HTTP/1, and
// HTTP/2 over TLS.
func (f listenFlags) protocols() *http.Protocols {
	if !f.H2C {
		return nil
	}
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// probeAddress returns the address for the name of the health check socket. The name of a Unix
// socket could be too long for it.
func probeAddress(bound net.Addr) string {
	if bound.Network() == "unix" {
		return "unix:0"
	}
	return bound.String()
}

// parseMode returns the mode of a Unix socket, from its octal digits.
func parseMode(s string) (fs.FileMode, error) {
	mode, err := strconv.ParseUint(s, 8, 16)
	if err != nil || mode > 0o777 {
		return 0, usagef("--listen-mode is an octal mode from 0000 to 0777, such as 0660, not %q", s)
	}
	return fs.FileMode(mode), nil
}

// open opens the listener, and returns it with the address for the log. mode is the mode of a Unix
// socket. The caller must call end when it has closed the listener.
func (e endpoint) open(ctx context.Context, mode fs.FileMode, heartbeat time.Duration) (l net.Listener, addr string, end func(), err error) {
	switch e.network {
	case "unix":
		if l, err = listenUnix(ctx, e.address, mode); err != nil {
			return nil, "", nil, fmt.Errorf("--listen: %w", err)
		}
		own, _ := os.Lstat(e.address)
		return l, "unix:" + e.address, func() { removeSocket(e.address, own) }, nil
	case systemdListen:
		l, err = passedListener()
	default:
		l, err = listen(ctx, e.address, heartbeat)
	}
	if err != nil {
		return nil, "", nil, fmt.Errorf("--listen: %w", err)
	}
	addr = l.Addr().String()
	if l.Addr().Network() == "unix" {
		addr = "unix:" + addr
	}
	return l, addr, func() {}, nil
}

// passedListener returns the listener of the only socket that systemd has passed (sd_listen_fds,
// systemd.socket(5)).
func passedListener() (net.Listener, error) {
	all, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets of systemd: %w", err)
	}
	if len(all) == 1 && all[0] != nil {
		if l, ok := all[0].(*net.UnixListener); ok {
			l.SetUnlinkOnClose(false) // systemd owns the file
		}
		return all[0], nil
	}
	n := len(all)
	for _, l := range all {
		if l == nil { // a datagram socket, for example
			n--
			continue
		}
		l.Close()
	}
	return nil, fmt.Errorf("systemd passed %d listening sockets, not 1: set one ListenStream= in the socket unit, and start its service", n)
}

// listenUnix opens a Unix socket. It replaces a socket that no process listens on, and never a file
// of another type. The socket has its mode before a client can connect: it is bound in a directory
// that only this user can enter, and then moved.
func listenUnix(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	if err := checkStale(ctx, path); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".presence-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	bound := filepath.Join(dir, "s")
	l, err := new(net.ListenConfig).Listen(ctx, "unix", bound)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it is moved
	if err = os.Chmod(bound, mode); err == nil {
		err = os.Rename(bound, path)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// checkStale returns an error if path exists and is not a socket without a listener.
func checkStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if conn, err := new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
		conn.Close()
		return fmt.Errorf("%s: address already in use", path)
	}
	return nil
}

// removeSocket removes the socket file, unless it is another one by now.
func removeSocket(path string, own fs.FileInfo) {
	if info, err := os.Lstat(path); err == nil && own != nil && os.SameFile(info, own) {
		os.Remove(path)
	}
}
