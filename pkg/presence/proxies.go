package presence

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/realclientip/realclientip-go"
)

// proxies finds the address of a client behind trusted proxies.
type proxies struct {
	trusted   []netip.Prefix
	forwarded map[string]realclientip.Strategy // by canonical header name
}

// newProxies checks Config.TrustedProxies. A non-nil error is a *ConfigError.
func newProxies(trusted []netip.Prefix) (proxies, error) {
	p := proxies{trusted: trusted, forwarded: map[string]realclientip.Strategy{}}
	var ranges []net.IPNet
	for _, t := range trusted {
		switch {
		case !t.IsValid() || t != t.Masked():
			return p, &ConfigError{Field: "TrustedProxies", Reason: fmt.Sprintf("has %v, which is not a prefix without host bits", t)}
		case t.Addr().Is4In6(): // peers are compared by their IPv4 address
			return p, &ConfigError{Field: "TrustedProxies", Reason: fmt.Sprintf("has %v, an IPv4 prefix in IPv6 form", t)}
		}
		ranges = append(ranges, net.IPNet{IP: t.Addr().AsSlice(), Mask: net.CIDRMask(t.Bits(), t.Addr().BitLen())})
	}
	for _, header := range []string{"X-Forwarded-For", "Forwarded"} {
		s, err := realclientip.NewRightmostTrustedRangeStrategy(header, ranges)
		if err != nil {
			return p, &ConfigError{Field: "TrustedProxies", Reason: "cannot be used: " + err.Error(), cause: err}
		}
		p.forwarded[header] = s
	}
	return p, nil
}

// client returns the address of the request's client, without a port. It is the address of the
// peer, unless the peer is trusted and has sent X-Forwarded-For, or else Forwarded (RFC 7239): then
// it is the last address in that header that is not trusted. An address that cannot be parsed ends
// the search, so the result is the peer then. The result is "unix" for a peer on a Unix socket.
func (p proxies) client(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	address := peer.Addr().Unmap()
	isUnix := err != nil && isUnixPeer(r)
	if !isUnix && !p.isTrusted(address) {
		if err != nil {
			return r.RemoteAddr // of a program that sets its own
		}
		return address.String()
	}
	for _, header := range []string{"X-Forwarded-For", "Forwarded"} {
		if len(r.Header[header]) == 0 {
			continue
		}
		list := http.Header{header: {elements(r.Header[header])}}
		if client := p.forwarded[header].ClientIP(list, r.RemoteAddr); client != "" {
			client, _, _ = strings.Cut(client, "%") // a zone has no meaning on another machine
			return client
		}
		break
	}
	if isUnix {
		return "unix"
	}
	return address.String()
}

// elements returns the elements of a header with a list, in one line. It omits empty ones (RFC 9110
// section 5.6.1). It returns an empty list if a quoted string contains a comma, a semicolon or a
// backslash, because the strategies would split it there. No address needs these.
func elements(lines []string) string {
	var list []string
	for _, line := range lines {
		quoted := false
		if strings.ContainsFunc(line, func(c rune) bool {
			quoted = quoted != (c == '"')
			return quoted && strings.ContainsRune(",;\\", c)
		}) || quoted {
			return ""
		}
		for element := range strings.SplitSeq(line, ",") {
			if element = strings.TrimSpace(element); element != "" {
				list = append(list, element)
			}
		}
	}
	return strings.Join(list, ", ")
}

// isUnixPeer reports whether the request came over a Unix socket, if its RemoteAddr has no IP
// address. RemoteAddr is "@" with Harden. Without it, it is the path to which the peer has bound
// its end of the connection, or else "@" or empty.
func isUnixPeer(r *http.Request) bool {
	_, isUnix := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr)
	return isUnix || r.RemoteAddr == "" || r.RemoteAddr[0] == '@'
}

// isTrusted ignores the zone of the address, because a prefix has none.
func (p proxies) isTrusted(a netip.Addr) bool {
	a = a.WithZone("")
	for _, t := range p.trusted {
		if t.Contains(a) {
			return true
		}
	}
	return false
}
