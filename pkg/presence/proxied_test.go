package presence_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"example.com/presence/pkg/presence"
)

// loopback is the configuration of a server that trusts a proxy on this machine.
func loopback() presence.Config {
	return presence.Config{ProxyProtocol: true, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Linger: -1}
}

// onUnix makes the server listen on a Unix socket. httptest knows only TCP addresses.
func onUnix(t *testing.T) func(*httptest.Server) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	return func(s *httptest.Server) { s.Listener.Close(); s.Listener = l }
}

// header returns a PROXY header for a client at the address, with a TLV in version 2.
func header(t testing.TB, version byte, client string) string {
	t.Helper()
	from := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client))
	to := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}
	if from.IP.To4() == nil {
		to.IP = net.ParseIP("2001:db8::1")
	}
	h := proxyproto.HeaderProxyFromAddrs(version, from, to)
	if version == 2 {
		h.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("presence.example")}})
	}
	text, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// v2 returns a header of version 2 with any content.
func v2(command, family byte, length int, rest string) string {
	return string(proxyproto.SIGV2) + string([]byte{command, family, byte(length >> 8), byte(length)}) + rest
}

// over sends text on a connection, and then requests /address. It returns the response body, or the
// status line of a response other than 200, or an error.
func over(t *testing.T, network, addr string, secure bool, text string) (string, error) {
	t.Helper()
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	const request = "GET /address HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	if !secure {
		text += request // in one write, so that the server reads it together with the header
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	if secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if _, err := io.WriteString(conn, request); err != nil {
			return "", err
		}
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return response.Status, nil
	}
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// The address in the PROXY header of a trusted peer is that of the request. A header without a
// client has the address of the peer.
func TestProxyHeaderAddress(t *testing.T) {
	t.Parallel()
	four, six := "203.0.113.7:4711", "[2001:db8::7]:4711"
	local := &proxyproto.Header{Version: 2, Command: proxyproto.LOCAL}
	health, _ := local.Format()
	headers := map[string]string{
		header(t, 1, four):        four,
		header(t, 1, six):         six,
		header(t, 2, four):        four,
		header(t, 2, six):         six,
		"PROXY UNKNOWN\r\n":       "",
		"PROXY UNKNOWN a b c\r\n": "",
		string(health):            "",
		v2(0x21, 0x12, 12, "\xcb\x00\x71\x07\x01\x02\x03\x04\x12\x67\x01\xbb"):                                         four, // UDP, as for HTTP/3
		v2(0x21, 0x31, 216, "/client"+strings.Repeat("\x00", 209)):                                                     "",   // a client on a Unix socket
		v2(0x21, 0x11, 2015, "\xcb\x00\x71\x07\x01\x02\x03\x04\x12\x67\x01\xbb\x04\x07\xd0"+strings.Repeat("x", 2000)): four, // longer than the buffer
	}
	for _, network := range []string{"tcp", "unix"} {
		for _, secure := range []bool{false, true} {
			change, peer := func(*httptest.Server) {}, "127.0.0.1:"
			if network == "unix" {
				change, peer = onUnix(t), "@"
			}
			_, addr := hardenedBy(t, loopback(), true, secure, change)
			for text, want := range headers {
				got, err := over(t, network, addr, secure, text)
				if err != nil || want != "" && got != want || want == "" && !strings.HasPrefix(got, peer) {
					t.Errorf("%s, TLS %v, %.60q: got %s, %v; want %s", network, secure, text, got, err, want+peer)
				}
			}
		}
	}
}

// A peer on a Unix socket is trusted, also if it has bound its end of the connection to a path, and
// the path looks like an address.
func TestProxiedByUnixPeers(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	config := presence.Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	_, addr := hardenedBy(t, config, true, false, onUnix(t))
	likeIP := &net.UnixAddr{Net: "unix", Name: "203.0.113.9:80"} // in the working directory
	for _, own := range []net.Addr{nil, &net.UnixAddr{Net: "unix", Name: filepath.Join(t.TempDir(), "peer")}, likeIP} {
		for header, want := range map[string]string{"X-Forwarded-For: 198.51.100.7\r\n": "198.51.100.7", "": "unix"} {
			dialer := net.Dialer{LocalAddr: own}
			conn, err := dialer.DialContext(t.Context(), "unix", addr)
			if err != nil {
				t.Fatal(err)
			}
			log.reset()
			fmt.Fprintf(conn, "GET /presence/healthz HTTP/1.1\r\nHost: x\r\n%sConnection: close\r\n\r\n", header)
			conn.SetDeadline(time.Now().Add(patience))
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Error(err)
			}
			conn.Close()
			log.has(t, " client_address="+want+" ")
			if own != nil {
				os.Remove(own.String())
			}
		}
	}
}

// slowly is a listener whose connections read one byte at a time.
type slowly struct{ net.Listener }

func (l slowly) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return slowConn{c}, err
}

type slowConn struct{ net.Conn }

func (c slowConn) Read(b []byte) (int, error) { return c.Conn.Read(b[:min(len(b), 1)]) }

// A header may arrive in pieces.
func TestProxyHeaderInPieces(t *testing.T) {
	t.Parallel()
	_, addr := hardenedBy(t, loopback(), true, false, func(s *httptest.Server) { s.Listener = slowly{s.Listener} })
	for version := range byte(2) {
		if got, err := over(t, "tcp", addr, false, header(t, version+1, "203.0.113.7:1")); err != nil || got != "203.0.113.7:1" {
			t.Errorf("version %d: got %s, %v; want the address", version+1, got, err)
		}
	}
}

// A peer that is not trusted must not send a header: it is an invalid request, with a line and a
// count.
func TestAbuseProxyHeaderOfUntrustedPeer(t *testing.T) {
	t.Parallel()
	c := loopback()
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	var log syncBuffer
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	server, addr := hardened(t, c, true, false)
	for version := range byte(2) {
		if got, err := over(t, "tcp", addr, false, header(t, version+1, "203.0.113.7:1")); err != nil || got != "400 Bad Request" {
			t.Errorf("version %d: got %s, %v; want 400", version+1, got, err)
		}
	}
	if got, err := over(t, "tcp", addr, false, ""); err != nil || !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("no header: got %s, %v; want the address of the peer", got, err)
	}
	log.has(t, `level=WARN msg="request refused" cause=proxy_header count=1 detail="PROXY header of a peer that is no trusted proxy" client_address=127.0.0.1`)
	if got := server.Stats().Refusals["proxy_header"]; got != 2 {
		t.Errorf("got %d refusals, want 2", got)
	}
}

// A trusted peer with an invalid header, or without one, gets no response, and its connection is
// closed at once. Its connection to a request would otherwise have a false address.
func TestAbuseProxyHeaderInvalid(t *testing.T) {
	t.Parallel()
	address := "\xcb\x00\x71\x07\x01\x02\x03\x04\x12\x67\x01\xbb"
	invalid := map[string]string{
		"no header":             "",
		"v1 without an end":     "PROXY TCP4 203.0.113.7 192.0.2.1 1 " + strings.Repeat("2", 200),
		"v1 never ends":         "PROXY " + strings.Repeat("x", 64<<10),
		"v1 without CR":         "PROXY TCP4 203.0.113.7 192.0.2.1 1 2\n",
		"v1 bad address":        "PROXY TCP4 203.0.113.256 192.0.2.1 1 2\r\n",
		"v1 bad port":           "PROXY TCP4 203.0.113.7 192.0.2.1 65536 2\r\n",
		"v1 zone":               "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
		"v1 protocol":           "PROXY UDP4 203.0.113.7 192.0.2.1 1 2\r\n",
		"v2 version":            v2(0x31, 0x11, 12, address),
		"v2 command":            v2(0x22, 0x11, 12, address),
		"v2 family":             v2(0x21, 0x13, 12, address),
		"v2 unspecified":        v2(0x21, 0x00, 0, ""),
		"v2 too short":          v2(0x21, 0x11, 11, address),
		"v2 oversized":          v2(0x21, 0x11, 65535, address+strings.Repeat("x", 65535-12)),
		"v2 oversized LOCAL":    v2(0x20, 0x00, 65535, strings.Repeat("x", 65535)),
		"v2 TLV exceeds header": v2(0x21, 0x11, 16, address+"\x04\xff\xffx"),
		"v2 half a TLV":         v2(0x21, 0x11, 14, address+"\x04\x00"),
		"v2 garbage as TLVs":    v2(0x21, 0x11, 12+500, address+strings.Repeat("\xa5\x5a\xa5", 166)+"\xa5\x5a"),
	}
	for _, secure := range []bool{false, true} {
		_, addr := hardened(t, loopback(), true, secure)
		for name, text := range invalid {
			began := time.Now()
			if got, err := over(t, "tcp", addr, secure, text); err == nil {
				t.Errorf("%s, TLS %v: got %s, want a closed connection", name, secure, got)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("%s, TLS %v: closed after %v, want at once", name, secure, took)
			}
		}
	}
}

// A connection that a trusted peer closes without a byte, such as a health check of a proxy, is not
// logged.
func TestProxiedHealthCheck(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	c := loopback()
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	_, addr := hardened(t, c, true, false)
	for text, want := range map[string]string{"": "", "PRO": "cause=proxy_header"} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, text)
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(patience))
		if n, err := io.Copy(io.Discard, conn); n != 0 || err != nil { // the server has closed the connection
			t.Errorf("%q: got %d bytes, %v; want a closed connection", text, n, err)
		}
		if got := log.String(); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%q: got the log %s, want %q", text, got, want)
		}
		log.reset()
	}
}

// A trusted peer that sends half a header, or nothing, is disconnected at the deadline of the first
// request, and delays no other client meanwhile. At the limit of idle connections, it is evicted.
func TestAbuseProxyHeaderNeverArrives(t *testing.T) {
	t.Parallel()
	halves := map[string]string{"silence": "", "half v2": header(t, 2, "203.0.113.7:1")[:20], "half a signature": "PRO"}
	for _, secure := range []bool{false, true} {
		_, addr := hardenedBy(t, loopback(), true, secure, func(s *httptest.Server) { s.Config.ReadHeaderTimeout = 3 * time.Second })
		conns := map[string]net.Conn{}
		for name, text := range halves {
			for i := range 20 {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				io.WriteString(conn, text)
				conns[fmt.Sprint(name, " ", i)] = conn
			}
		}
		began := time.Now()
		if got, err := over(t, "tcp", addr, secure, header(t, 1, "203.0.113.7:1")); err != nil || got != "203.0.113.7:1" {
			t.Errorf("TLS %v: got %s, %v; want a response", secure, got, err)
		}
		if took := time.Since(began); took > 2500*time.Millisecond {
			t.Errorf("TLS %v: another client waited %v, want no delay", secure, took)
		}
		for name, conn := range conns {
			conn.SetReadDeadline(time.Now().Add(patience))
			if n, err := io.Copy(io.Discard, conn); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s, TLS %v: got %d bytes, %v; want a closed connection", name, secure, n, err)
			}
		}
	}
}

// Peers without a header count as idle connections that sent no request: at the limit, a new
// connection evicts the oldest of them.
func TestAbuseProxyHeaderEviction(t *testing.T) {
	t.Parallel()
	c := loopback()
	c.MaxIdleConnections = 5
	_, addr := hardened(t, c, true, false)
	var conns []net.Conn
	for range 20 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	// Fewer than 20 connections would have to reach their deadline of 10 s without the eviction.
	began := time.Now()
	if got, err := over(t, "tcp", addr, false, header(t, 1, "203.0.113.7:1")); err != nil || got != "203.0.113.7:1" {
		t.Errorf("got %s, %v; want a response", got, err)
	}
	for _, conn := range conns[:len(conns)-c.MaxIdleConnections] {
		conn.SetReadDeadline(began.Add(8 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("got an open connection, want it evicted before its deadline")
		}
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("got a response after %v, want it before the deadline of the others", took)
	}
}

// MaxConnectionsPerAddress counts the address in the header, streams included, and not that of the
// proxy. A connection that ends releases its slot.
func TestProxyHeaderCountsTheClient(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		c := loopback()
		c.MaxConnectionsPerAddress = 2
		h, addr := hardened(t, c, true, secure)
		h.URL = map[bool]string{false: "http://", true: "https://"}[secure] + addr + "/presence"
		by := func(client string) *http.Transport {
			t2 := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DialContext: through(t, client)}
			t.Cleanup(t2.CloseIdleConnections)
			return t2
		}
		first := h.streamBy(by("203.0.113.7:1"), "/events", bearer(t, "alice"))
		second := h.streamBy(by("203.0.113.7:2"), "/events", bearer(t, "alice"))
		first.next("sync")
		second.next("sync")
		responds := func(client string) bool {
			got, err := over(t, "tcp", addr, secure, header(t, 2, client))
			return err == nil && got == client
		}
		if responds("203.0.113.7:3") {
			t.Error("third connection of a client: got a response, want none")
		}
		if !responds("203.0.113.8:1") || !responds("[2001:db8::7]:1") {
			t.Error("other clients behind the proxy: got no response, want 200")
		}
		first.close()
		second.until("user count", "1")
		for end := time.Now().Add(patience); !responds("203.0.113.7:4"); {
			if time.Now().After(end) {
				t.Fatalf("TLS %v: new connection after the end of a stream: got no response, want 200", secure)
			}
		}
	}
}

// through returns a dialer that sends a PROXY header for a client.
func through(t testing.TB, client string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	text := header(t, 2, client)
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			_, err = io.WriteString(conn, text)
		}
		return conn, err
	}
}
