package doctor

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
	"time"

	"example.com/presence/pkg/presence/room"
)

// Config contains the settings of [Run]. Only URL and Watch are required.
type Config struct {
	// URL is the base URL of the server as its clients use it, including any mount path. Its scheme
	// is http or https. It has no user, query or fragment.
	URL string

	// Token is the token of a user. Secret signs tokens if Token is empty. With neither, the run
	// signs in as a guest if the server has guests, and else skips the checks that need a token.
	Token            string
	Secret           []byte // at least 32 bytes
	Issuer, Audience string // of the tokens that Secret signs

	// Room is a room that the token may join. Messages are sent to it. Default: a room of its own
	// if the token allows that, else lobby.
	Room string

	// Origin is the origin of the page that uses the server, such as https://app.example.com.
	// Default: the origin of URL, so that cors does not run.
	Origin string

	// Watch is the time for which streams are observed. A shorter time finds fewer timeouts.
	Watch time.Duration

	// RootCAs verifies the certificate of the server. Default: nil, the roots of the system.
	RootCAs *x509.CertPool

	// Connect is the host:port of each connection. It replaces the address of URL, but neither the
	// Host header nor the name in the certificate. Default: empty, the host of URL.
	Connect string
}

// ConfigError reports a field of a Config with an invalid value.
type ConfigError struct {
	Field  string // name of the field of [Config]
	Reason string
}

func (e *ConfigError) Error() string { return "doctor: " + e.Field + " " + e.Reason }

// base returns the URL of the server, whose path ends with a slash.
func (c Config) base() (*url.URL, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, &ConfigError{"URL", fmt.Sprintf("must be http://host or https://host, not %q", c.URL)}
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, &ConfigError{"URL", "must have no user, query or fragment"}
	}
	if !strings.HasSuffix(u.Path, "/") {
		u = u.JoinPath("/")
	}
	return u, nil
}

// Validate returns the *ConfigError that [Run] would return, or nil.
func (c Config) Validate() error {
	if _, err := c.base(); err != nil {
		return err
	}
	if c.Origin != "" {
		u, err := url.Parse(c.Origin)
		if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != c.Origin {
			return &ConfigError{"Origin", fmt.Sprintf("must be scheme://host[:port] without a path, not %q", c.Origin)}
		}
	}
	if _, err := room.ParseName(c.Room); err != nil && c.Room != "" {
		return &ConfigError{"Room", fmt.Sprintf("must be 1 to 128 characters of A-Z a-z 0-9 . _ -, not %q", c.Room)}
	}
	if c.Watch < time.Second || c.Watch > time.Hour {
		return &ConfigError{"Watch", fmt.Sprintf("must be 1s to 1h, not %v", c.Watch)}
	}
	if !validHeader(c.Token) {
		return &ConfigError{"Token", "must contain no control characters"}
	}
	return nil
}

// validHeader reports whether net/http sends the text as the value of a header.
func validHeader(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// originOf returns the origin of a URL as a browser sends it: without the default port.
func originOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if port := u.Port(); port == "80" && u.Scheme == "http" || port == "443" && u.Scheme == "https" {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return u.Scheme + "://" + host
}
