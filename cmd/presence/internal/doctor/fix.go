package doctor

import (
	"fmt"
	"net/http"
	"strings"
)

// proxy is the name of a proxy in a Fix.
type proxy string

const (
	nginx    proxy = "nginx"
	haproxy  proxy = "HAProxy"
	caddy    proxy = "Caddy"
	apache   proxy = "Apache"
	varnish  proxy = "Varnish"
	lighttpd proxy = "lighttpd"
	squid    proxy = "Squid"
	envoy    proxy = "Envoy"
	node     proxy = "http-proxy for Node"
)

// signs are texts in the headers Server, Via and X-Varnish that name a proxy, in lower case.
var signs = []struct {
	text string
	is   proxy
}{
	{"varnish", varnish}, // first: it passes the Server header of a proxy behind it on
	{"squid", squid},
	{"nginx", nginx},
	{"openresty", nginx},
	{"haproxy", haproxy},
	{"caddy", caddy},
	{"apache", apache},
	{"lighttpd", lighttpd},
	{"envoy", envoy},
}

// proxyOf returns the proxy that a response names, or "". HAProxy and Traefik add no header.
func proxyOf(h http.Header) proxy {
	text := strings.ToLower(strings.Join(append(h.Values("Via"), h.Get("Server")), " "))
	if h.Get("X-Varnish") != "" {
		text += " varnish"
	}
	for _, s := range signs {
		if strings.Contains(text, s.text) {
			return s.is
		}
	}
	return ""
}

// remedy holds the lines that fix a fault, by proxy. They agree with docs/proxies.md.
type remedy map[proxy]string

// common are the proxies whose lines a verdict has if the response names no proxy.
var common = []proxy{nginx, haproxy, caddy, envoy, node}

// of returns the lines for a proxy, or those of the common proxies if it is unknown or has no line.
func (r remedy) of(p proxy) (all []Fix) {
	if line := r[p]; line != "" {
		return []Fix{{string(p), line}}
	}
	for _, p := range common {
		if line := r[p]; line != "" {
			all = append(all, Fix{string(p), line})
		}
	}
	return all
}

// synchronize is the line for a wrong clock.
var synchronize = Fix{"machine", "synchronize the clock with NTP, such as apt install chrony"}

var unbuffer = remedy{
	nginx:    "proxy_buffering off; or remove proxy_ignore_headers X-Accel-Buffering",
	haproxy:  "remove http-response wait-for-body",
	caddy:    "remove response_buffers from reverse_proxy",
	apache:   "ProxyPass / http://127.0.0.1:8080/ flushpackets=on",
	varnish:  `if (req.url ~ "/events(\?|$)") { return (pipe); }`,
	lighttpd: "server.stream-response-body = 2",
}

var uncompress = remedy{
	nginx:    "remove text/event-stream and * from gzip_types",
	haproxy:  "remove text/event-stream from compression type",
	caddy:    "match header Content-Type text/html* (a line of its own in encode { … })",
	apache:   `SetEnvIf Request_URI "/events$" no-gzip no-brotli`,
	varnish:  `if (req.url ~ "/events(\?|$)") { return (pipe); }`,
	lighttpd: `remove text/event-stream from deflate.mimetypes`,
}

// unlimited has no line for nginx and HAProxy, which limit only idle streams.
var unlimited = remedy{
	envoy: "timeout: 0s (Gateway API: timeouts: request: 0s)",
	caddy: "remove write from servers { timeouts { … } }",
}

var passHost = remedy{
	nginx:   "proxy_set_header Host $http_host;",
	haproxy: "remove http-request set-header Host",
	caddy:   "remove header_up Host",
	apache:  "ProxyPreserveHost On",
}

var passAuthorization = remedy{
	nginx:   "proxy_set_header Authorization $http_authorization;",
	haproxy: "remove http-request del-header Authorization",
	caddy:   "remove header_up -Authorization",
	apache:  "remove RequestHeader unset Authorization",
	squid:   "cache_peer … login=PASSTHRU",
}

var passPosition = remedy{
	nginx:   "proxy_set_header Last-Event-ID $http_last_event_id;",
	haproxy: "remove http-request del-header Last-Event-ID",
	caddy:   "remove header_up -Last-Event-ID",
	apache:  "remove RequestHeader unset Last-Event-ID",
}

var passPreflight = remedy{
	nginx:   "remove if ($request_method = OPTIONS) and add_header Access-Control-Allow-Origin",
	haproxy: "remove http-response del-header and set-header Access-Control-Allow-Origin",
	caddy:   "remove the header directives for Access-Control-Allow-Origin",
	apache:  "remove Header set and unset Access-Control-Allow-Origin",
}

var passCookie = remedy{
	nginx:   "remove proxy_cookie_path, proxy_cookie_domain and proxy_cookie_flags",
	haproxy: "remove http-response replace-header Set-Cookie",
	caddy:   "remove header_down Set-Cookie",
	apache:  "remove ProxyPassReverseCookiePath and Header edit Set-Cookie",
}

var endClosed = remedy{
	nginx:   "remove proxy_ignore_client_abort on;",
	haproxy: "option abortonclose (in a listen section)",
	caddy:   "remove flush_interval -1",
	varnish: `if (req.url ~ "/events(\?|$)") { return (pipe); }`,
	node:    `proxy.on("proxyReq", (proxyReq, req, res) => res.on("close", () => proxyReq.destroy()))`,
}

var uncache = remedy{
	nginx:   "proxy_cache off;",
	haproxy: "remove http-request cache-use",
	caddy:   "remove the cache directive",
	varnish: "return (pass);",
	squid:   "cache deny all",
}

var stripPrefix = remedy{
	nginx:   "proxy_pass http://127.0.0.1:8080/; (the slash at the end removes the prefix)",
	haproxy: `http-request replace-path /[^/]+(/.*) \1`,
	caddy:   "handle_path in place of handle",
}

var speakHTTP2 = remedy{
	nginx:   "http2 on; (before 1.25.1: listen 443 ssl http2;)",
	haproxy: "bind :443 ssl crt FILE alpn h2,http/1.1",
	caddy:   "remove protocols h1",
	apache:  "Protocols h2 http/1.1",
}

// readTimeout returns the lines for an idle timeout of that many seconds.
func readTimeout(seconds int) remedy {
	return remedy{
		nginx:   fmt.Sprintf("proxy_read_timeout %ds;", seconds),
		haproxy: fmt.Sprintf("timeout server %ds (and a line timeout client %ds)", seconds, seconds),
		caddy:   fmt.Sprintf("read_timeout %ds (a line of its own in transport http { … })", seconds),
		apache:  fmt.Sprintf("Timeout %d", seconds),
		envoy:   fmt.Sprintf("stream_idle_timeout: %ds", seconds),
	}
}
