package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
)

// health checks that a server is alive.
type health struct {
	URL string `name:"url" placeholder:"URL" help:"URL at which the server is mounted, to check it over HTTP. Default: check all servers in this container or on this machine over their health check sockets; if there is none, check over HTTP the address that the environment gives to serve."`
}

// Help returns the examples of --help.
func (health) Help() string {
	return "Examples:\n\n" +
		"    presence health\n" +
		"    presence health --url https://presence.example.com"
}

// Run returns an error unless GET /healthz returns 200 within 3 s.
func (c *health) Run(ctx context.Context, p *process) error {
	base := c.URL
	if base == "" {
		addr, err := address(p.getenv(envName("listen")), p.getenv("PORT"), false)
		if err != nil {
			return err
		}
		port := "" // empty unless the environment gives one
		if p.getenv(envName("listen")) != "" || p.getenv("PORT") != "" {
			_, port, _ = net.SplitHostPort(addr)
		}
		if found, err := probe(port); found {
			return err
		}
		base = localURL(addr, p.getenv(envName("tls-cert")) != "")
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return usagef("--url: %q is not http://host or https://host", base)
	}
	// The certificate names the public host, not the local address of this check.
	ip := net.ParseIP(u.Hostname())
	unverified := c.URL == "" || u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	client := http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: unverified}, DisableKeepAlives: true},
		Timeout:   probeTime,
	}
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
		return fmt.Errorf("%s: %s", req.URL.Redacted(), resp.Status)
	}
	return nil
}
