package presence

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"

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
		if !t.IsValid() || t != t.Masked() {
			return p, &ConfigError{Field: "TrustedProxies", Reason: fmt.Sprintf("has %v, which is not a prefix without host bits", t)}
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
		if client := p.forwarded[header].ClientIP(r.Header, r.RemoteAddr); client != "" {
			return client
		}
		break
	}
	if isUnix {
		return "unix"
	}
	return address.String()
}

// isUnixPeer reports whether the request came over a Unix socket, if its RemoteAddr has no IP
// address. RemoteAddr is the path of the peer if the peer has bound its end of the connection, and
// else "@" or empty.
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
