package presence_test

import (
	"errors"
	"io/fs"
	"math"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"example.com/presence/pkg/presence"
)

// unbounded lists the fields of Config that have no range to test.
var unbounded = []string{"CostRate", "HistoryRate", "DisableIOUring", "Guest", "ReadyNeedsBackplane", "Metrics", "ProxyProtocol", "Observer", "History", "KeepHandler", "Backplane", "OnMessage", "OnJoin", "OnLeave", "Logger", "Cookie.Insecure"}

// New rejects every value that is out of range with a ConfigError for the field. The error's text
// names the field once.
func TestConfigErrors(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range []struct {
		field  string
		reason string
		set    func(*presence.Config)
	}{
		{"Authenticator", "is required", func(c *presence.Config) { c.Authenticator = nil }},
		{"Count", `is "connections" or "users", not "tabs"`, func(c *presence.Config) { c.Count = "tabs" }},
		{"Coalesce", "is 1ms to 750ms, not 751ms", func(c *presence.Config) { c.Coalesce = 751 * time.Millisecond }},
		{"Coalesce", "is 1ms to 750ms, not 999.999µs", func(c *presence.Config) { c.Coalesce = time.Millisecond - 1 }},
		{"Linger", "is 0s to 5m, not 5m0.000000001s", func(c *presence.Config) { c.Linger = 5*time.Minute + 1 }},
		{"Heartbeat", "is 1s to 5m, not 999.999999ms", func(c *presence.Config) { c.Heartbeat = time.Second - 1 }},
		{"Heartbeat", "is 1s to 5m, not 5m0.000000001s", func(c *presence.Config) { c.Heartbeat = 5*time.Minute + 1 }},
		{"MemberLimit", "is at least 1, not -1", func(c *presence.Config) { c.MemberLimit = -1 }},
		{"HistoryAge", "is 1s to 24h, not 999.999999ms", func(c *presence.Config) { c.HistoryAge = time.Second - 1 }},
		{"HistoryAge", "is 1s to 24h, not 24h0m0.000000001s", func(c *presence.Config) { c.HistoryAge = 24*time.Hour + 1 }},
		{"HistoryBytes", "is at least 1, not -1", func(c *presence.Config) { c.HistoryBytes = -1 }},
		{"MaxConnections", "is at least 0, not -1", func(c *presence.Config) { c.MaxConnections = -1 }},
		{"MaxConnectionsPerUser", "is at least 0, not -1", func(c *presence.Config) { c.MaxConnectionsPerUser = -1 }},
		{"MaxIdleConnections", "is at least 0, not -1", func(c *presence.Config) { c.MaxIdleConnections = -1 }},
		{"MaxConnectionsPerAddress", "is at least 0, not -1", func(c *presence.Config) { c.MaxConnectionsPerAddress = -1 }},
		{"MaxRoomsPerUser", "is at least 0, not -1", func(c *presence.Config) { c.MaxRoomsPerUser = -1 }},
		{"MaxRooms", "is at least 1, not -1", func(c *presence.Config) { c.MaxRooms = -1 }},
		{"FullStatus", "is 200 or 503, not 404", func(c *presence.Config) { c.FullStatus = http.StatusNotFound }},
		{"ShutdownGrace", "is at least 0s, not -1ns", func(c *presence.Config) { c.ShutdownGrace = -1 }},
		{"Node", `is 1 to 64 printable characters without blanks, not "a b"`, func(c *presence.Config) { c.Node = "a b" }},
		{"Node", "is 1 to 64 printable characters", func(c *presence.Config) { c.Node = strings.Repeat("x", 65) }},
		{"MessageRate", "is a number, not NaN", func(c *presence.Config) { c.MessageRate = math.NaN() }},
		{"MessageRate", "is a number, not -Inf", func(c *presence.Config) { c.MessageRate = math.Inf(-1) }},
		{"MessageBurst", "is at least 1, not -1", func(c *presence.Config) { c.MessageBurst = -1 }},
		{"MaxMessage", "is 1 byte to 1 MiB, not -1", func(c *presence.Config) { c.MaxMessage = -1 }},
		{"MaxMessage", "is 1 byte to 1 MiB, not 1048577", func(c *presence.Config) { c.MaxMessage = 1<<20 + 1 }},
		{"MaxUnsent", "is at least four times MaxMessage, 400, not 399", func(c *presence.Config) { c.MaxMessage, c.MaxUnsent = 100, 399 }},
		{"MaxUnsentTotal", "is at least four times MaxMessage, 262144, not 262143", func(c *presence.Config) { c.MaxUnsentTotal = 4<<16 - 1 }},
		{"CostBurst", "is at least 65536, not 65535", func(c *presence.Config) { c.CostBurst = 1<<16 - 1 }},
		{"CORSOrigins", `"*" must be the only entry`, func(c *presence.Config) { c.CORSOrigins = []string{"*", "https://a.example"} }},
		{"CORSOrigins", `"example.com" is not scheme://host[:port]`, func(c *presence.Config) { c.CORSOrigins = []string{"example.com"} }},
		{"CORSOrigins", `"https://*.com" needs a domain`, func(c *presence.Config) { c.CORSOrigins = []string{"https://*.com"} }},
		{"Cookie.Domain", `"a b;c" is not a domain`, func(c *presence.Config) { c.Cookie.Domain = "a b;c" }},
		{"Cookie.Path", `is a path of at most 1024 bytes that starts with /, with special characters percent-encoded, not "presence"`, func(c *presence.Config) { c.Cookie.Path = "presence" }},
		{"Cookie.Path", `not "/a;b"`, func(c *presence.Config) { c.Cookie.Path = "/a;b" }},
		{"Cookie.Path", `not "/a b"`, func(c *presence.Config) { c.Cookie.Path = "/a b" }},
		{"Cookie.Path", `not "/a?b"`, func(c *presence.Config) { c.Cookie.Path = "/a?b" }},
		{"Cookie.Path", `not "/ä"`, func(c *presence.Config) { c.Cookie.Path = "/ä" }},
		{"Cookie.Path", `not "//a"`, func(c *presence.Config) { c.Cookie.Path = "//a" }},
		{"Cookie.Path", "at most 1024 bytes", func(c *presence.Config) { c.Cookie.Path = "/" + strings.Repeat("a", 1024) }},
		{"Hosts", `"a:80" is not a host name or an IP address, without a port`, func(c *presence.Config) { c.Hosts = []string{"localhost", "a:80"} }},
		{"Hosts", `"" is not a host name`, func(c *presence.Config) { c.Hosts = []string{""} }},
		{"Hosts", `"[::1]" is not a host name`, func(c *presence.Config) { c.Hosts = []string{"[::1]"} }},
		{"Hosts", `"*.example.com" is not a host name`, func(c *presence.Config) { c.Hosts = []string{"*.example.com"} }},
		{"Cookie.SameSite", "needs a Secure cookie", func(c *presence.Config) {
			c.Cookie.SameSite, c.Cookie.Insecure = http.SameSiteNoneMode, true
		}},
		{"ContentSecurityPolicy", "is at most 4096 bytes without control characters", func(c *presence.Config) { c.ContentSecurityPolicy = "a\r\nb" }},
		{"ContentSecurityPolicy", "is at most 4096 bytes", func(c *presence.Config) { c.ContentSecurityPolicy = strings.Repeat("a", 4097) }},
		{"TrustedProxies", "has 192.0.2.1/24, which is not a prefix without host bits", func(c *presence.Config) {
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.0.2.1/24")}
		}},
		{"TrustedProxies", "has invalid Prefix", func(c *presence.Config) { c.TrustedProxies = []netip.Prefix{{}} }},
		{"Web", "invalid file name {}.js: {, } and * are reserved", func(c *presence.Config) { c.Web = fstest.MapFS{"{}.js": {}} }},
	} {
		seen[c.field] = true
		config := presence.Config{Authenticator: authenticator(func(*http.Request) (presence.User, error) { return presence.User{}, nil })}
		c.set(&config)
		_, err := presence.New(config)
		var bad *presence.ConfigError
		if !errors.As(err, &bad) || bad.Field != c.field || !strings.Contains(bad.Reason, c.reason) {
			t.Errorf("got %v (%#v), want field %s and reason %q", err, bad, c.field, c.reason)
		} else if err.Error() != "presence: config: "+c.field+" "+bad.Reason {
			t.Errorf("got text %q, want %q", err, "presence: config: "+c.field+" "+bad.Reason)
		}
	}
	for _, name := range unbounded {
		seen[name] = true
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[presence.Config]()) {
		switch {
		case !field.IsExported(), seen[field.Name]:
		case field.Type == reflect.TypeFor[presence.Cookie]():
			for _, inner := range reflect.VisibleFields(field.Type) {
				if name := "Cookie." + inner.Name; !seen[name] {
					t.Errorf("field %s: got no test of a bound, want one, or an entry in unbounded", name)
				}
			}
		default:
			t.Errorf("field %s: got no test of a bound, want one, or an entry in unbounded", field.Name)
		}
	}
}

// unreadable is a file system with an unreadable root.
type unreadable struct{}

func (unreadable) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

// A ConfigError wraps its cause.
func TestConfigErrorWrapsTheCause(t *testing.T) {
	_, err := presence.New(presence.Config{
		Authenticator: authenticator(func(*http.Request) (presence.User, error) { return presence.User{}, nil }),
		Web:           unreadable{},
	})
	if bad := new(presence.ConfigError); !errors.As(err, &bad) || bad.Field != "Web" || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v, want a ConfigError of Web that wraps %v", err, fs.ErrPermission)
	}
}

// New accepts the smallest and the largest value of each range.
func TestConfigBoundsAreInclusive(t *testing.T) {
	for _, c := range []presence.Config{
		{Coalesce: time.Millisecond, Linger: 5 * time.Minute, Heartbeat: time.Second, HistoryAge: time.Second, MaxMessage: 1, MaxUnsent: 4,
			MemberLimit: 1, HistoryBytes: 1, MaxRooms: 1, MessageBurst: 1},
		{Coalesce: 750 * time.Millisecond, Linger: -1, Heartbeat: 5 * time.Minute, HistoryAge: 24 * time.Hour, MaxMessage: 1 << 20, MessageRate: -1,
			FullStatus: http.StatusServiceUnavailable, Count: presence.CountUsers},
	} {
		c.Authenticator = authenticator(func(*http.Request) (presence.User, error) { return presence.User{}, nil })
		server, err := presence.New(c)
		if err != nil {
			t.Errorf("%+v: got %v, want no error", c, err)
			continue
		}
		if err := server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
