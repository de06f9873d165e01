package main

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// address returns the address to listen on: the value of --listen, or else the port in $PORT, which
// hosting platforms set, or else port 8080. With dev and without --listen, the host is 127.0.0.1.
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
	_, port, err := net.SplitHostPort(listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", usagef("%s: %q is not [host]:port with a port from 0 to 65535", flag, listen)
	}
	return listen, nil
}

// parseProxies returns the prefixes of --trusted-proxies. An address without a length stands for
// itself.
func parseProxies(list []string) (all []netip.Prefix, err error) {
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if a, failed := netip.ParseAddr(s); failed == nil {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil || p != p.Masked() {
			return nil, usagef("--trusted-proxies: %q is not an address, or a network such as 10.0.0.0/8 without host bits", s)
		}
		all = append(all, p)
	}
	return all, nil
}

// localURL returns the URL at which a program on this machine reaches a server that listens on
// addr. addr is a result of [address].
func localURL(addr string, tls bool) string {
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

// hostOf returns addr with its port replaced by the port of bound. addr is a result of [address].
// The host name remains, because a certificate may require it.
func hostOf(addr string, bound net.Addr) string {
	host, _, _ := net.SplitHostPort(addr)
	_, port, _ := net.SplitHostPort(bound.String())
	return net.JoinHostPort(host, port)
}

// listen opens the listener. Each accepted socket sends a keepalive probe to an idle peer once per
// heartbeat.
//
// It disables Multipath TCP, which Go's listeners try first, because Multipath TCP lacks the socket
// options and statistics that detect peers that vanished or stopped reading.
func listen(ctx context.Context, addr string, heartbeat time.Duration) (net.Listener, error) {
	config := net.ListenConfig{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: heartbeat, Interval: heartbeat, Count: 2},
	}
	config.SetMultipathTCP(false)
	return config.Listen(ctx, "tcp", addr)
}
