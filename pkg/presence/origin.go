package presence

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"example.com/presence/pkg/presence/internal/redact"
	"example.com/presence/pkg/presence/internal/refusal"
)

// origin is the origin of a page (RFC 6454 section 4). Two origins are the same if all fields are
// equal.
type origin struct {
	scheme, host string // lower case; an IPv6 address without brackets
	port         uint16 // the scheme's default port if the origin has none; 0 if the scheme has no default port
}

// hostCharacters are the characters of a host name.
const hostCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._"

// schemePorts holds the default ports, which browsers omit from an origin.
var schemePorts = map[string]uint16{"http": 80, "https": 443}

// parseOrigin parses scheme://host[:port]. Any scheme is valid, because app shells and extensions
// use their own, such as capacitor and chrome-extension.
func parseOrigin(s string) (origin, bool) {
	scheme, host, found := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	if !found || scheme == "" || scheme[0] < 'a' || scheme[0] > 'z' || strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyz0123456789+.-") != "" {
		return origin{}, false
	}
	return originOf(scheme, host)
}

// originOf returns the origin of a page with that scheme and host. host may include a port.
func originOf(scheme, host string) (origin, bool) {
	if strings.Trim(host, hostCharacters+"[:]") != "" { // first, because ToLower turns U+212A into a k
		return origin{}, false
	}
	host = strings.ToLower(host)
	u, err := url.Parse("//" + host)                       // validates the brackets
	bare := strings.Count(host, ":") > 1 && host[0] != '[' // an IPv6 address must have brackets
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
	any    bool // Config.CORSOrigins is "*": every page may use its own token, but no page may use the cookie
	exact  map[origin]bool
	parent map[origin]bool // wildcard entries: one label may precede the host
}

// newOrigins parses Config.CORSOrigins. A non-nil error is a *ConfigError.
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

// allow reports whether an origin is listed. sent is the origin in the form that a browser sends.
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

// hasHost reports whether a listed origin has the host, with any scheme and port. host is in lower
// case.
func (a origins) hasHost(host string) bool {
	_, below, _ := strings.Cut(host, ".")
	for o := range a.exact {
		if o.host == host {
			return true
		}
	}
	for o := range a.parent {
		if o.host == below && !strings.HasPrefix(host, ".") {
			return true
		}
	}
	return false
}

// check rejects a request that a page of another origin caused, unless that origin is listed:
//
//	Sec-Fetch-Site   Origin               result
//	same-origin      any                  allowed
//	none             any                  allowed
//	absent           absent               allowed: its sender cannot read the response
//	absent           the request's host   allowed
//	any              a listed origin      allowed
//	otherwise                             403
//
// Sec-Fetch-Site decides if it is present (W3C Fetch Metadata). Browsers do not send it over plain
// HTTP. In that case Origin must name the host of the request. If the Host header has no port, the
// default port of the Origin's scheme applies.
func (a origins) check(r *http.Request) error {
	sent := r.Header.Get("Origin")
	switch site := r.Header.Get("Sec-Fetch-Site"); {
	case site == "same-origin" || site == "none":
		return nil
	case site == "" && (sent == "" || sameHost(sent, r.Host)):
		return nil
	case a.allow(sent):
		return nil
	}
	return a.reject(r)
}

// checkPreflight rejects a CORS preflight (WHATWG Fetch section 3.3) of an origin that is not
// listed. The browser does not send the request after it, so this is the only one to log.
func (a origins) checkPreflight(r *http.Request) error {
	if !isPreflight(r) || a.any || a.allow(r.Header.Get("Origin")) {
		return nil
	}
	return a.reject(r)
}

func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// reject returns the problem of a request of another origin.
func (a origins) reject(r *http.Request) error {
	sent := r.Header.Get("Origin")
	p := forbid(refusal.Origin, "cross-origin request rejected: origin %.300q not allowed (server host %.300q)", sent, r.Host)
	named := " " + redact.Quote(sent, maxOrigin)
	if sent == "" {
		p = forbid(refusal.Origin, "cross-origin request rejected: origin not allowed (server host %.300q)", r.Host)
		named = ""
	}
	p.private = fmt.Sprintf("cross-origin request rejected: origin%s not allowed (server host %s): %s", named, redact.Quote(r.Host, maxOrigin), a.why(r))
	return p
}

// maxOrigin is the maximum length of an origin or host in the log, in bytes.
const maxOrigin = 256

// why returns the possible causes of a rejected request, for the log. A preflight and
// Sec-Fetch-Site show that a page of another origin has sent it. Without them, the cause can also
// be a proxy that does not pass the Host header on.
func (a origins) why(r *http.Request) string {
	page, _ := parseOrigin(r.Header.Get("Origin"))
	own, _ := originOf(page.scheme, r.Host)
	site, isWeb := r.Header.Get("Sec-Fetch-Site"), schemePorts[page.scheme] != 0
	switch {
	case a.any:
		return `the CORS origin "*" does not allow cookies`
	case site != "":
		return "not in the CORS origins, Sec-Fetch-Site " + redact.Quote(site, 16)
	case isPreflight(r):
		return "not in the CORS origins"
	case isWeb && own.host == page.host:
		return "not in the CORS origins, or a proxy changes the port of Host"
	case isWeb && isInternal(own.host):
		return "not in the CORS origins, or a proxy does not pass Host on"
	}
	return "not in the CORS origins"
}

// isInternal reports whether a host is an address of a private network, or a name without a dot, as
// proxies use for their servers.
func isInternal(host string) bool {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return !strings.Contains(host, ".")
	}
	ip = ip.Unmap()
	return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast()
}

// sameHost reports whether a page of the origin sent was loaded from the host. The scheme of the
// origin is used for both, because a proxy may terminate TLS and hide the scheme of the request.
func sameHost(sent, host string) bool {
	page, ok := parseOrigin(sent)
	if !ok || schemePorts[page.scheme] == 0 {
		return false
	}
	own, ok := originOf(page.scheme, host)
	return ok && own == page
}
