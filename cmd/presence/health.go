package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
)

// health is the command that checks whether a server is alive.
type health struct {
	URL string `name:"url" placeholder:"URL" help:"Base URL of the server, including any mount path, or unix:PATH of its Unix socket, to check it over HTTP. A Unix socket with --tls-cert or --proxy-protocol can only be checked without --url. Default: check all servers in this container or on this machine through their health check sockets. If there is no socket, check the listen address of serve that the environment sets, over HTTP."`
}

// Help returns the examples that --help prints.
func (health) Help() string {
	return "Examples:\n\n" +
		"    presence health\n" +
		"    presence health --url https://presence.example.com"
}

// Run returns an error unless the server reports within 3 s that it is alive, with a 200 response
// to GET /healthz or through its health check socket.
func (c *health) Run(ctx context.Context, p *process) error {
	base := c.URL
	if base == "" {
		addr, err := address(p.getenv(envName("listen")), p.getenv("PORT"), false)
		if err != nil {
			return err
		}
		at := "" // empty unless the environment sets it
		if addr != fromSystemd && (p.getenv(envName("listen")) != "" || p.getenv("PORT") != "") {
			at = addr
		}
		if found, err := probe(at); found {
			return err
		}
		if addr == fromSystemd {
			return errors.New("no health check socket found: the address of a socket from systemd is unknown, so set --url")
		}
		base = localURL(addr, p.getenv(envName("tls-cert")) != "")
	}
	base, via := transport(base)
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return usagef("--url: %q is not http://host, https://host or unix:PATH", base)
	}
	// Do not verify the certificate of a local server, because it names the public host and not the
	// local address.
	ip := net.ParseIP(u.Hostname())
	unverified := c.URL == "" || u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	via.Proxy, via.TLSClientConfig = nil, &tls.Config{InsecureSkipVerify: unverified}
	client := http.Client{Transport: via, Timeout: probeTime}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath("healthz").String(), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: unexpected status %s", req.URL.Redacted(), resp.Status)
	}
	return nil
}
