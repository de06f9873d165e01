package presence

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// origin is the origin of a page (RFC 6454 section 4). Two origins are the same if all fields are
// equal.
type origin struct {
	scheme, host string // lower case; an IPv6 address without brackets
	port         uint16 // the default port of the scheme if none is given; 0 if the scheme has no default
}

// schemePorts are the default ports, which a browser leaves out.
var schemePorts = map[string]uint16{"http": 80, "https": 443}

// parseOrigin reads scheme://host[:port]. Any scheme is valid: app shells and extensions have their
// own, such as capacitor and chrome-extension.
func parseOrigin(s string) (origin, bool) {
	scheme, host, found := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	if !found || scheme == "" || scheme[0] < 'a' || scheme[0] > 'z' || strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyz0123456789+.-") != "" {
		return origin{}, false
	}
	return originOf(scheme, host)
}

// originOf returns the origin of a page that a host with that name and port serves.
func originOf(scheme, host string) (origin, bool) {
	host = strings.ToLower(host)
	if strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789.-_[:]") != "" {
		return origin{}, false
	}
	u, err := url.Parse("//" + host)                       // checks brackets
	bare := strings.Count(host, ":") > 1 && host[0] != '[' // an IPv6 address has brackets
	if err != nil || u.Hostname() == "" || strings.HasSuffix(host, ":") || bare || strings.Contains(host, "..") || host[0] == '.' {
		return origin{}, false
	}
	o := origin{scheme: scheme, host: u.Hostname(), port: schemePorts[scheme]}
	if u.Port() != "" {
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || port == 0 {
			return origin{}, false
		}
		o.port = uint16(port)
	}
	return o, true
}

// origins holds the origins whose pages may use this server with its cookie.
type origins struct {
	any    bool // Config.CORSOrigins is "*": every page may use its own token, none the cookie
	exact  map[origin]bool
	parent map[origin]bool // allows any one label before the host
}

// newOrigins reads Config.CORSOrigins. The error is a *ConfigError.
func newOrigins(list []string) (origins, error) {
	bad := func(reason, s string) (origins, error) {
		return origins{}, &ConfigError{Field: "CORSOrigins", Reason: fmt.Sprintf("%q %s", s, reason)}
	}
	allowed := origins{exact: map[origin]bool{}, parent: map[origin]bool{}}
	for _, s := range list {
		if s == "*" {
			if len(list) > 1 {
				return bad("must be the only entry", s)
			}
			allowed.any = true
			continue
		}
		scheme, host, _ := strings.Cut(s, "://")
		below, wildcard := strings.CutPrefix(host, "*.")
		o, ok := parseOrigin(scheme + "://" + below)
		switch {
		case !ok:
			return bad("is not scheme://host[:port] in ASCII, as a browser sends it; *. may stand for the host's first label", s)
		case !wildcard:
			allowed.exact[o] = true
		case !strings.Contains(strings.Trim(o.host, "."), ".") && o.host != "localhost" || isIP(o.host):
			return bad("needs a domain of at least two labels after the wildcard", s)
		default:
			allowed.parent[o] = true
		}
	}
	return allowed, nil
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// allow reports whether an origin, in the form that a browser sends, is listed.
func (a origins) allow(sent string) bool {
	o, ok := parseOrigin(sent)
	if !ok {
		return false
	}
	if a.exact[o] {
		return true
	}
	label, below, found := strings.Cut(o.host, ".")
	o.host = below
	return found && label != "" && a.parent[o]
}

// check refuses a request that a page of another origin caused, unless the origin is listed.
//
//	Sec-Fetch-Site   Origin               result
//	same-origin      any                  allowed
//	none             any                  allowed
//	absent           absent               allowed: not from a script of another origin
//	absent           the request's host   allowed
//	any              a listed origin      allowed
//	otherwise                             403
//
// Sec-Fetch-Site decides if present (W3C Fetch Metadata). A browser sends none over plain HTTP.
// Then Origin must name the host of the request, where a missing port is the default of the
// Origin's scheme.
func (a origins) check(r *http.Request) error {
	sent := r.Header.Get("Origin")
	switch site := r.Header.Get("Sec-Fetch-Site"); {
	case site == "same-origin" || site == "none":
		return nil
	case site == "" && (sent == "" || sameHost(sent, r.Host)):
		return nil
	case a.allow(sent):
		return nil
	case sent == "":
		return refuse(http.StatusForbidden, "cross-origin request refused: the page is not from this server's host %.300q, and its origin is not allowed", r.Host)
	}
	return refuse(http.StatusForbidden, "cross-origin request refused: origin %.300q is not this server's host %.300q and is not allowed", sent, r.Host)
}

// sameHost reports whether a page of the origin sent was loaded from the host. The scheme of the
// origin counts for both, because a proxy may terminate TLS.
func sameHost(sent, host string) bool {
	page, ok := parseOrigin(sent)
	if !ok || schemePorts[page.scheme] == 0 {
		return false
	}
	own, ok := originOf(page.scheme, host)
	return ok && own == page
}
