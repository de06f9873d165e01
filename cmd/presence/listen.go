package main

import (
	"cmp"
	"context"
	"net"
	"strconv"
	"time"
)

// address is where to listen: where --listen says; else at the port that PORT,
// as platforms set it, says; else at 8080. With dev, and without --listen, on
// this machine alone.
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

// localURL is how a program on this machine reaches what listens at addr, which
// is one that [address] returned.
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

// hostOf returns the address that was given, one that [address] returned, with the port that is
// bound to it. The host stays a name, which a certificate may need.
func hostOf(addr string, bound net.Addr) string {
	host, _, _ := net.SplitHostPort(addr)
	_, port, _ := net.SplitHostPort(bound.String())
	return net.JoinHostPort(host, port)
}

// listen opens the listener. The sockets that it accepts probe an idle peer once
// per heartbeat.
//
// Multipath TCP, which Go's listeners try first, lacks the options and figures
// by which peers that vanished or stopped reading are found, so it is not tried.
func listen(ctx context.Context, addr string, heartbeat time.Duration) (net.Listener, error) {
	config := net.ListenConfig{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: heartbeat, Interval: heartbeat, Count: 2},
	}
	config.SetMultipathTCP(false)
	return config.Listen(ctx, "tcp", addr)
}
