package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// leak is a request with a token in a place where a client, a proxy or an attacker could put it.
type leak struct {
	method, target string
	headers        []string // names and values
	body           string
}

// leaks returns requests with the token in all places of a request. admin is the token of an admin.
func leaks(token, admin string) (all []leak) {
	get := func(target string, headers ...string) { all = append(all, leak{"GET", target, headers, ""}) }
	escaped := strings.NewReplacer(".", "%2E", "-", "%2d", "_", "%5F").Replace(token)
	twice := strings.ReplaceAll(escaped, "%", "%25")
	valid := []string{"Authorization", "Bearer " + token}
	asAdmin := []string{"Authorization", "Bearer " + admin}

	for _, value := range []string{"Bearer " + token, "bearer  " + token, "Bearer" + token, "Bearer " + token + " x", "Bearer \"" + token + "\"", "Basic " + token,
		"Basic " + base64.StdEncoding.EncodeToString([]byte("alice:"+token)), token, "Digest username=" + token, "Bearer " + token + "," + token} {
		for _, path := range []string{"/presence", "/events", "/session", "/rooms"} {
			get(path, "Authorization", value)
		}
	}
	get("/presence", slices.Concat(valid, valid)...)
	for _, value := range []string{"presence_token=" + token, "__Host-presence_token=" + token, "theme=" + token, token, "presence_token=\"" + token + "\"",
		"presence_token=x; presence_token=" + token, "presence_token=" + token + "; " + token} {
		for _, path := range []string{"/presence", "/events", "/session"} {
			get(path, "Cookie", value)
			get(path, "Cookie", value, "Origin", "https://evil.example")
		}
		all = append(all, leak{"DELETE", "/session", []string{"Cookie", value}, ""})
	}
	for _, text := range []string{token, escaped, twice} {
		for _, query := range []string{"access_token=", "access_token=%zz&access_token=", "access_token=;", "access_token=x&access_token=", "a=b&", "Access-Token=", "rooms="} {
			get("/presence?" + query + text)
			get("/events?" + query + text)
		}
		for _, path := range []string{"/", "/members/", "/events/", "//", "/x?", "/%zz"} {
			get(path + text)
			all = append(all, leak{"DELETE", path + text, asAdmin, ""}, leak{"DELETE", path + text + "?for=1m", asAdmin, ""}, leak{"OPTIONS", path + text, nil, ""})
		}
		for _, name := range []string{"room", "after", "before", "limit", "last_event_id", "lastEventId", "id", "for", "room_id"} {
			get("/presence?"+name+"="+text, valid...)
			get("/events?"+name+"="+text, valid...)
			get("/messages?"+name+"="+text, valid...)
			get("/rooms?"+name+"="+text, asAdmin...)
			all = append(all, leak{"DELETE", "/members?id=x&for=1m&" + name + "=" + text, asAdmin, ""}, leak{"DELETE", "/members?for=1m&" + name + "=" + text, asAdmin, ""})
		}
	}
	for _, name := range []string{"Last-Event-ID", "X-Request-Id", "Origin", "Referer", "User-Agent", "Host", "X-Forwarded-For", "Forwarded", "Sec-Fetch-Site",
		"Content-Type", "Accept-Encoding", "Access-Control-Request-Method", "If-None-Match", "Range", "X-" + token} {
		for _, value := range []string{token, "https://" + token, "https://" + token + ".example/?access_token=" + token, "for=" + token} {
			get("/presence", append([]string{name, value}, valid...)...)
			get("/session", "Cookie", "presence_token="+token, name, value)
			all = append(all, leak{"POST", "/session", []string{name, value}, `{"token":"` + token + `"}`}, leak{"OPTIONS", "/session", []string{"Access-Control-Request-Method", "POST", name, value}, ""})
		}
	}
	return append(append(all, leak{token, "/presence", valid, ""}, leak{"X" + token, "/" + token, nil, ""}), bodies(token, valid)...)
}

// bodies returns requests with the token in their bodies.
func bodies(token string, valid []string) (all []leak) {
	inJSON := []string{"Content-Type", "application/json"}
	for _, body := range []string{`{"token":"` + token + `"}`, `{"token":"` + token + `","x":1}`, `{"` + token + `":"x"}`, `{"token":"` + token, token, `"` + token + `"`,
		`["` + token + `"]`, `{"token":"` + token + `\n"}`, `{"token":"` + token + `x"}`, `{"token":1,"token":"` + token + `"}`, `{"token":"` + token + `"}{`, "token=" + token,
		`{"event":"` + token + `","data":1}`, `{"event":"` + token[:min(len(token), 60)] + `","data":1}`, `{"id":"` + token + `","data":1}`, `{"data":"` + token + `"}`,
		`{"name":"` + token + `"}`} {
		for _, path := range []string{"/session", "/messages", "/login"} {
			all = append(all, leak{"POST", path, slices.Concat(valid, inJSON), body}, leak{"POST", path, inJSON, body},
				leak{"POST", path, []string{"Content-Type", "text/plain; x=" + token}, body})
		}
		all = append(all, leak{"PUT", "/state", slices.Concat(valid, inJSON), body})
	}
	return all
}

// send sends the request to a server. It ignores a request that the client cannot send.
func (l leak) send(t *testing.T, client *http.Client, addr string) (sent bool) {
	t.Helper()
	path, query, _ := strings.Cut(l.target, "?")
	u := &url.URL{Scheme: "http", Host: addr, Opaque: "//" + addr + path, RawQuery: query}
	r := (&http.Request{Method: l.method, URL: u, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(l.body)), ContentLength: int64(len(l.body))}).WithContext(t.Context())
	for pair := range slices.Chunk(l.headers, 2) {
		if pair[0] == "Host" {
			r.Host = pair[1]
		}
		r.Header.Add(pair[0], pair[1])
	}
	answer, err := client.Do(r)
	if err != nil {
		return false
	}
	answer.Body.Close()
	return true
}

// sendRaw sends lines that net/http cannot send.
func sendRaw(t *testing.T, addr string, lines ...string) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, strings.Join(lines, "\r\n")+"\r\n\r\n")
	if answer, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
		answer.Body.Close()
	}
}

// No line of the log has 20 consecutive bytes of a token, in any place of a request, at level
// debug, over HTTP/1.1 and HTTP/2, and at the listener of the metrics.
func TestNoTokenInLog(t *testing.T) {
	t.Parallel()
	heavy(t)
	admin := must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=root", "--admin")
	valid := signed(t, jwt.SigningMethodHS256, []byte(secret), jwt.MapClaims{"exp": 4102444800, "iss": "https://login.example"})
	blank := "eyAiYWxnIjogIkhTMjU2IiwgInR5cCI6ICJKV1QiIH0." + valid[strings.IndexByte(valid, '.')+1:] // its signature is wrong
	short := signed(t, jwt.SigningMethodHS256, []byte(secret), nil)
	nested := signed(t, jwt.SigningMethodHS256, []byte(secret), jwt.MapClaims{"iss": valid, "aud": []string{valid}, "sid": valid, "presence": map[string]any{"join": []string{short}}})
	inSub := signed(t, jwt.SigningMethodHS256, []byte(secret), jwt.MapClaims{"sub": short, "iss": "https://login.example", "presence": map[string]any{"join": []string{short}}})
	inKID := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "alice"})
	inKID.Header["kid"] = valid
	withKID, err := inKID.SignedString([]byte("another secret of at least 32 bytes"))
	if err != nil {
		t.Fatal(err)
	}
	tokens := []string{valid, blank, short, nested, inSub, withKID}
	tokens = sized(tokens[:2], tokens, tokens)
	for _, flags := range [][]string{{"--jwt-issuer=https://login.example"}, {"--query-token", "--cors-origin=https://app.example", "--dev"}, {"--proxy-protocol"}} {
		server := start(t, env{"PRESENCE_JWT_SECRET": secret}, append([]string{"serve", "--log-level=debug", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0",
			"--h2c", "--trusted-proxies=127.0.0.1"}, flags...)...)
		_, metrics, _ := strings.Cut(server.stderr.find(t, `msg="metrics listening"`), "addr=")
		_, addr, _ := strings.Cut(server.stderr.find(t, "msg=listening "), "addr=")
		addr, _, _ = strings.Cut(addr, " ")
		one, two := through(t, addr, false), through(t, addr, true)
		two.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
		two.Transport.(*http.Transport).Protocols.SetHTTP2(false)
		sent := [2]int{}
		behind := flags[0] == "--proxy-protocol" // then only the raw requests arrive
		for _, token := range tokens {
			for _, l := range leaks(token, admin) {
				for i, client := range []*http.Client{one, two} {
					if !behind && l.send(t, client, addr) {
						sent[i]++
					}
				}
			}
			for _, to := range []string{addr, metrics} {
				sendRaw(t, to, "GET /metrics HTTP/1.1", "Host: "+token, "Authorization: Bearer "+token, "Authorization: Bearer "+token)
				sendRaw(t, to, "GET /"+token+"?access_token="+token+" HTTP/1.1", "Host: a")
				sendRaw(t, to, token+" /"+token+" HTTP/1.1", "Host: a")
				sendRaw(t, to, "GET / "+token, token)
				sendRaw(t, to, "POST /session HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Content-Type: application/json", "", token)
				sendRaw(t, to, "GET / HTTP/1.1", "Host: a", token+": x", token)
				sendRaw(t, to, token)
				sendRaw(t, to, "PROXY TCP4 "+token, "GET /"+token+" HTTP/1.1", "Host: a")
				sendRaw(t, to, "PROXY TCP4 127.0.0.1 127.0.0.1 1 2", "GET /"+token+" HTTP/1.1", "Host: a")
			}
		}
		server.end()
		server.exit()
		log := server.stderr.String()
		all, lines, masked := sent[0]+sent[1], strings.Count(log, "msg=request "), strings.Count(log, "[token]")
		if !behind && min(sent[0], sent[1]) < 600*len(tokens) || lines < all*9/10 || masked < max(1, all/20) {
			t.Errorf("%q: got %d requests, %d lines about them and %d masked tokens", flags, sent, lines, masked)
		}
		checkNoToken(t, log, append(tokens, admin))
	}
}

// checkNoToken fails the test for each token of which the log has 20 consecutive bytes.
func checkNoToken(t *testing.T, log string, tokens []string) {
	t.Helper()
	pieces := map[string]bool{}
	for _, token := range tokens {
		for i := range len(token) - 19 {
			pieces[token[i:i+20]] = true
		}
	}
	for line := range strings.SplitSeq(log, "\n") {
		for i := range max(0, len(line)-19) {
			if pieces[line[i:i+20]] {
				t.Errorf("got a part of a token in the log: %s", line)
				break
			}
		}
	}
}
