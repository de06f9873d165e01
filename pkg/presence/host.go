package presence

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"example.com/presence/pkg/presence/internal/refusal"
)

// hosts holds the hosts that a request may name, besides those of this machine. The keys are in
// lower case, without a port, and an IPv6 address has no brackets.
type hosts map[string]bool

// newHosts parses Config.Hosts. A non-nil error is a *ConfigError.
func newHosts(list []string) (hosts, error) {
	allowed := hosts{}
	for _, s := range list {
		host, ok := s, true
		if address, err := netip.ParseAddr(s); err == nil {
			host = address.WithZone("").String() // the host of a URL has no zone
		} else {
			u, err := url.Parse("//" + s)
			ok = err == nil && s != "" && u.Host == s && u.Port() == "" && strings.Trim(s, hostCharacters) == ""
		}
		if !ok {
			return nil, &ConfigError{Field: "Hosts", Reason: fmt.Sprintf("%q is not a host name or an IP address, without a port", s)}
		}
		allowed[strings.ToLower(host)] = true
	}
	return allowed, nil
}

// hostOf returns the host of a Host header in the form of hosts, or an empty string if it is
// invalid.
func hostOf(header string) string {
	o, _ := originOf("http", header)
	return o.host
}

// isLocal reports whether a host in the form of hosts is localhost, a name below it, or a loopback
// address. These are the hosts that browsers resolve without DNS (RFC 6761 section 6.3).
func isLocal(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && address.IsLoopback()
}

// check rejects a request that names another host than these, a local one, and those of the
// origins. With DNS rebinding, a page of another site resolves its own host name to the address of
// this server. Its requests are then same-origin for the browser, but their Host header still has
// that name.
func (h hosts) check(r *http.Request, allowed origins) error {
	host := hostOf(r.Host)
	if isLocal(host) || h[host] || allowed.hasHost(host) {
		return nil
	}
	return &problem{status: http.StatusMisdirectedRequest, cause: refusal.Host,
		detail: fmt.Sprintf("host %.300q not allowed: use localhost, or allow the host or an origin with it", r.Host)}
}
