package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"
)

// secure returns the TLS settings of the streams, or nil for plain HTTP.
func secure(c *Config, u *url.URL) *tls.Config {
	if u.Scheme != "https" {
		return nil
	}
	settings := &tls.Config{ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}}
	if c.Transport.TLSClientConfig != nil {
		settings.RootCAs = c.Transport.TLSClientConfig.RootCAs
	}
	return settings
}

// addressesOf returns the addresses of the server that accept connections, at least one.
func addressesOf(ctx context.Context, c *Config, u *url.URL) (addresses []net.Addr, err error) {
	candidates, err := candidatesOf(ctx, c, u)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	var failures []error
	for _, at := range candidates {
		k, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, at.Network(), at.String())
		if err != nil {
			failures = append(failures, err)
			continue
		}
		k.Close()
		addresses = append(addresses, at)
	}
	if len(addresses) == 0 {
		return nil, fmt.Errorf("load: connect to %s: %w", c.URL, errors.Join(failures...))
	}
	return addresses, nil
}

func candidatesOf(ctx context.Context, c *Config, u *url.URL) (candidates []net.Addr, err error) {
	if c.Socket != "" {
		return []net.Addr{&net.UnixAddr{Name: c.Socket, Net: "unix"}}, nil
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", either(u.Port(), u.Scheme))
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, u.Hostname())
	for _, ip := range ips {
		candidates = append(candidates, &net.TCPAddr{IP: ip.IP, Zone: ip.Zone, Port: port})
	}
	return candidates, err
}
