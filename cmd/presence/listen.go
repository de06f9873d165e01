package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
)

// listenFlags are the flags of the listener.
type listenFlags struct {
	Listen     string `placeholder:":8080" help:"Address to listen on: [host]:port, unix:PATH for a Unix socket, or systemd for the socket that systemd passes. $PORT, if set, replaces the default port. Default: :8080, or 127.0.0.1:8080 with --dev."`
	ListenMode string `placeholder:"0660" help:"File mode of the Unix socket of --listen, in octal, 0 to 0777. Default: 0660."`
	TLSCert    string `name:"tls-cert" placeholder:"FILE" help:"PEM file with the certificate chain. Enables TLS and HTTP/2. Requires --tls-key. The server reads both files again when they change, and on SIGHUP. Default: none (plain HTTP)."`
	TLSKey     string `name:"tls-key" placeholder:"FILE" help:"PEM file with the private key of --tls-cert. Requires --tls-cert. Default: none."`
	H2C        bool   `name:"h2c" help:"Accept HTTP/2 without TLS as well, from clients that do not begin with HTTP/1 (prior knowledge). Not allowed with --tls-cert, which enables HTTP/2 itself. Default: off."`

	TrustedProxies []string `placeholder:"CIDR" help:"Address or prefix of a proxy, such as 10.0.0.0/8, whose X-Forwarded-For or Forwarded header the log uses as the address of the client. With --proxy-protocol, the proxies that must send a PROXY header. Peers on a Unix socket are always trusted. Repeatable. Default: none."`
	ProxyProtocol  bool     `help:"Read the address of the client from the PROXY header (version 1 or 2) with which each connection of --trusted-proxies and each connection on a Unix socket must begin. Connections of other peers must not have one. Default: off."`
}

const (
	unixPrefix  = "unix:"   // of a value of --listen that names a Unix socket
	fromSystemd = "systemd" // the value of --listen for the socket that systemd passes
)

// address returns the address to listen on: the value of --listen, or else the port in $PORT, which
// hosting platforms set, or else port 8080. With dev and without --listen, the host is 127.0.0.1.
// The result is host:port, unix:PATH or systemd.
func address(listen, port string, dev bool) (string, error) {
	flag := "--listen"
	if listen == "" {
		host := ""
		if dev {
			host = "127.0.0.1"
		}
		if port != "" {
			flag = "$PORT"
		}
		listen = net.JoinHostPort(host, cmp.Or(port, "8080"))
	}
	if path, ok := strings.CutPrefix(listen, unixPrefix); ok {
		return listen, checkPath(path)
	}
	if listen == fromSystemd {
		return listen, nil
	}
	_, port, err := net.SplitHostPort(listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", usagef("%s: %q is not [host]:port with a port from 0 to 65535, unix:PATH or systemd", flag, listen)
	}
	return listen, nil
}

// devHosts returns the hosts that requests may name with --dev: localhost, and the host of
// --listen.
func (f listenFlags) devHosts() []string {
	hosts := []string{"localhost"}
	if host, _, err := net.SplitHostPort(f.Listen); err == nil && host != "" && !strings.HasPrefix(f.Listen, unixPrefix) {
		hosts = append(hosts, host)
	}
	return hosts
}

// checkPath returns a usage error if path cannot be that of a Unix socket.
func checkPath(path string) error {
	switch {
	case path == "":
		return usagef("--listen: unix: requires the path of the socket")
	case path[0] == '@':
		return usagef("--listen: unix:%s is an abstract socket: use a path, because any user could connect to a socket without a file", path)
	case strings.ContainsRune(path, 0) || len(path) > maxPath:
		return usagef("--listen: path of the Unix socket too long (%d bytes, maximum %d)", len(path), maxPath)
	}
	return nil
}

// localURL returns the URL at which a program on this machine reaches a server that listens on
// addr. addr is a result of [address] or [hostOf], but not systemd. The result for a Unix socket is
// unix:PATH.
func localURL(addr string, tls bool) string {
	if strings.HasPrefix(addr, unixPrefix) {
		return addr
	}
	host, port, _ := net.SplitHostPort(addr)
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	scheme := "http"
	if tls {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// hostOf returns addr with its port replaced by the port of the listener. addr is a result of
// [address]. The host name remains, because a certificate may require it.
func hostOf(addr string, listener net.Addr) string {
	if addr == fromSystemd || strings.HasPrefix(addr, unixPrefix) {
		return bound(listener)
	}
	host, _, _ := net.SplitHostPort(addr)
	_, port, _ := net.SplitHostPort(listener.String())
	return net.JoinHostPort(host, port)
}

// bound returns the address of a listener in the form of --listen.
func bound(addr net.Addr) string {
	if addr.Network() == "unix" {
		return unixPrefix + addr.String()
	}
	return addr.String()
}

// check returns a usage error for the first flag that is invalid, or that another flag excludes.
func (f listenFlags) check() error {
	onUnix := strings.HasPrefix(f.Listen, unixPrefix)
	if f.ListenMode != "" && !onUnix {
		return usagef("--listen-mode requires --listen unix:PATH")
	}
	if _, err := f.mode(); err != nil {
		return err
	}
	if _, err := parsePrefixes(f.TrustedProxies); err != nil {
		return err
	}
	if f.ProxyProtocol && len(f.TrustedProxies) == 0 && !onUnix && f.Listen != fromSystemd {
		return errUntrusted
	}
	if f.H2C && f.TLSCert != "" {
		return usagef("--h2c requires plain HTTP: remove it, because --tls-cert enables HTTP/2")
	}
	return nil
}

// errUntrusted is the error of --proxy-protocol on a TCP socket without --trusted-proxies.
var errUntrusted = usagef("--proxy-protocol requires --trusted-proxies with the addresses of the proxies, such as 10.0.0.0/8: other clients could send a false address")

// mode returns the file mode of the Unix socket.
func (f listenFlags) mode() (fs.FileMode, error) {
	mode, err := strconv.ParseUint(cmp.Or(f.ListenMode, "0660"), 8, 32)
	if err != nil || mode > 0o777 {
		return 0, usagef("--listen-mode is an octal file mode from 0 to 0777, not %q", f.ListenMode)
	}
	return fs.FileMode(mode), nil
}

// protocols returns the protocols of the server, or nil for the default of net/http.
func (f listenFlags) protocols() *http.Protocols {
	if !f.H2C {
		return nil
	}
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// parsePrefixes parses the values of --trusted-proxies. An address is a prefix of its full length.
func parsePrefixes(values []string) (prefixes []netip.Prefix, err error) {
	for _, value := range values {
		p, err := netip.ParsePrefix(value)
		if address, bad := netip.ParseAddr(value); bad == nil && address.Zone() == "" {
			p, err = netip.PrefixFrom(address, address.BitLen()), nil
		}
		switch {
		case err != nil:
			return nil, usagef("--trusted-proxies: %q is not an address or prefix, such as 10.0.0.1 or 10.0.0.0/8", value)
		case p != p.Masked():
			return nil, usagef("--trusted-proxies: %q has host bits beyond its length: use %v or %v", value, p.Masked(), p.Addr())
		case p.Addr().Is4In6(): // peers are compared by their IPv4 address
			return nil, usagef("--trusted-proxies: %q is an IPv4 address in IPv6 form: use the IPv4 form", value)
		}
		prefixes = append(prefixes, p)
	}
	return prefixes, nil
}

// open opens the listener. addr is a result of [address]. Each accepted TCP socket sends a
// keepalive probe to an idle peer once per heartbeat, unless systemd opened the listener.
//
// It disables Multipath TCP, which Go's listeners try first, because Multipath TCP lacks the socket
// options and statistics that detect peers that vanished or stopped reading.
func (f listenFlags) open(ctx context.Context, addr string, heartbeat time.Duration) (net.Listener, error) {
	if path, ok := strings.CutPrefix(addr, unixPrefix); ok {
		mode, err := f.mode()
		if err != nil {
			return nil, err
		}
		l, err := listenUnix(path, mode)
		if err != nil {
			return nil, fmt.Errorf("--listen: %s: %w", addr, err)
		}
		return l, nil
	}
	if addr == fromSystemd {
		l, err := passedListener()
		if err != nil {
			return nil, fmt.Errorf("--listen systemd: %w", err)
		}
		if l.Addr().Network() == "tcp" && f.ProxyProtocol && len(f.TrustedProxies) == 0 {
			l.Close()
			return nil, errUntrusted
		}
		return l, nil
	}
	config := net.ListenConfig{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: heartbeat, Interval: heartbeat, Count: 2},
	}
	config.SetMultipathTCP(false)
	l, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	return l, nil
}

// passedListener returns the listener of the only socket that systemd passed to this process
// (sd_listen_fds(3)). Closing it does not remove the file of a Unix socket.
func passedListener() (net.Listener, error) {
	files := activation.Files(true)
	defer func() {
		for _, file := range files {
			file.Close() // a listener has its own descriptor
		}
	}()
	switch {
	case len(files) == 0:
		return nil, errors.New("no socket passed: $LISTEN_FDS is not set for this process (start it with a systemd socket unit)")
	case len(files) > 1:
		return nil, fmt.Errorf("too many sockets passed (%d, maximum 1)", len(files))
	}
	if err := accepts(files[0]); err != nil {
		return nil, err
	}
	return net.FileListener(files[0])
}
