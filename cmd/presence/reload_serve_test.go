package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// replace replaces a file by one with another content, as an atomic operation.
func replace(t *testing.T, path, content string) {
	t.Helper()
	next := write(t, filepath.Dir(path), filepath.Base(path)+".next", content)
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// hangUp sends SIGHUP and waits until the keys are reloaded.
func hangUp(t *testing.T, server *exec.Cmd, log *lines) {
	t.Helper()
	if err := server.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	log.find(t, `"keys reloaded"`)
}

// request sends a request over by, with the token and an optional JSON body.
func request(t *testing.T, by http.RoundTripper, method, url, token, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := by.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// streamed opens a stream and returns its lines.
func streamed(t *testing.T, by http.RoundTripper, url, token string) (*http.Response, *lines) {
	t.Helper()
	resp := request(t, by, "GET", url+"/events", token, "")
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET /events: got %s, want 200", resp.Status)
	}
	l := newLines()
	go func() { // ends with the stream
		io.Copy(l, resp.Body)
		l.Close()
	}()
	l.find(t, "event: user count")
	return resp, l
}

// anyCertificate returns a transport for a server with a self-signed certificate.
func anyCertificate(t *testing.T, http2 bool) *http.Transport {
	by := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: http2}
	t.Cleanup(by.CloseIdleConnections)
	return by
}

// A renewed certificate is used for new handshakes. Open streams of HTTP/1.1 and HTTP/2 stay open,
// and their connections remain in use.
func TestRenewedCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := dir+"/cert.pem", dir+"/key.pem"
	certificate(t, certFile, keyFile)
	_, log, addr := serveProcess(t, "--tls-cert="+certFile, "--tls-key="+keyFile)
	url, token := "https://"+addr, must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=alice")
	serial := func(by http.RoundTripper, proto int) int64 {
		t.Helper()
		resp := request(t, by, "GET", url+"/healthz", token, "")
		io.Copy(io.Discard, resp.Body)
		if resp.ProtoMajor != proto {
			t.Fatalf("got %s, want HTTP/%d", resp.Proto, proto)
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	one, two := anyCertificate(t, false), anyCertificate(t, true)
	first, firstLines := streamed(t, one, url, token)
	second, secondLines := streamed(t, two, url, token)
	if first.ProtoMajor != 1 || second.ProtoMajor != 2 {
		t.Fatalf("got streams over %s and %s", first.Proto, second.Proto)
	}

	cert, key := pair(t, 2, time.Hour)
	replace(t, certFile, cert)
	replace(t, keyFile, key)
	if line := log.find(t, `"certificate reloaded"`); !strings.Contains(line, `"serial":"2"`) {
		t.Errorf("got %s, want serial 2", line)
	}
	for proto, by := range map[int]*http.Transport{1: anyCertificate(t, false), 2: anyCertificate(t, true)} {
		if got := serial(by, proto); got != 2 {
			t.Errorf("HTTP/%d: got serial %d in a new handshake, want 2", proto, got)
		}
	}
	if got := serial(two, 2); got != 1 {
		t.Errorf("got serial %d over the connection of the stream, want 1", got)
	}
	if resp := request(t, two, "POST", url+"/messages", token, `{"data":"after the renewal"}`); resp.StatusCode != http.StatusAccepted {
		t.Errorf("POST /messages: got %s", resp.Status)
	}
	firstLines.find(t, "after the renewal")
	secondLines.find(t, "after the renewal")
	if log := log.String(); strings.Contains(log, "not reloaded") {
		t.Errorf("a pair that did not match for a moment is logged:\n%s", log)
	}
}

// A secret is rotated without a restart and without a gap: first both secrets are accepted, then
// the new one only. A stream that was opened with a token of the old one ends when that expires.
func TestSecretRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	before, after := strings.Repeat("old ", 8), strings.Repeat("new ", 8)
	files := []string{write(t, dir, "secret", before), write(t, dir, "secret-2", before)}
	server, log, addr := serveProcess(t, "--jwt-secret-file="+files[0], "--jwt-secret-file="+files[1])
	url := "http://" + addr
	token := func(secret, ttl string) string {
		return must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=alice", "--ttl="+ttl)
	}
	status := func(want int, secret string) {
		t.Helper()
		if resp := request(t, http.DefaultTransport, "POST", url+"/messages", token(secret, "1h"), `{"data":1}`); resp.StatusCode != want {
			t.Errorf("token of the secret %q: got %s, want %d", secret, resp.Status, want)
		}
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	by := anyCertificate(t, false)
	status(202, before)
	status(401, after)

	replace(t, files[1], after)
	hangUp(t, server, log)
	status(202, before)
	status(202, after)
	_, stays := streamed(t, by, url, token(before, "1h"))
	_, ends := streamed(t, by, url, token(before, "5s"))

	replace(t, files[0], after)
	hangUp(t, server, log)
	status(401, before)
	status(202, after)
	ends.find(t, `data: {"reason":"expired"}`)
	if resp := request(t, by, "POST", url+"/session", token(after, "1h"), fmt.Sprintf(`{"token":%q}`, token(before, "1h"))); resp.StatusCode != 401 {
		t.Errorf("POST /session with a token of the old secret: got %s, want 401", resp.Status)
	}
	if resp := request(t, by, "POST", url+"/session", token(after, "1h"), fmt.Sprintf(`{"token":%q}`, token(after, "1h"))); resp.StatusCode != 204 {
		t.Errorf("POST /session with a token of the new secret: got %s, want 204", resp.Status)
	}

	// A guest that signs in now has a token of the new secret.
	resp := request(t, by, "POST", url+"/login", token(after, "1h"), `{"name":"Zoë"}`)
	if cookies := resp.Cookies(); resp.StatusCode != 200 || len(cookies) != 1 || request(t, by, "POST", url+"/messages", cookies[0].Value, `{"data":1}`).StatusCode != 202 {
		t.Errorf("POST /login: got %s with the cookies %v", resp.Status, cookies)
	}

	// An invalid file changes nothing.
	replace(t, files[0], "too short")
	if err := server.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	line := log.find(t, `"keys not reloaded: previous keys in use"`)
	if !strings.Contains(line, `"err":"--jwt-secret-file: `+files[0]+`: auth: secret too short (9 bytes, minimum 32)"`) {
		t.Errorf("got %s, want the flag, the file and the reason", line)
	}
	status(202, after)
	request(t, by, "POST", url+"/messages", token(after, "1h"), `{"data":"last"}`)
	stays.find(t, "last")
	if log := log.String(); strings.Contains(log, "old old") || strings.Contains(log, "new new") {
		t.Errorf("the log has a secret:\n%s", log)
	}
}

// Clients join over TLS while the server receives SIGHUP and its certificate is replaced, again and
// again. No handshake fails, no stream is lost, and all have the true count and the message.
func TestReloadDuringJoins(t *testing.T) {
	t.Parallel()
	heavy(t)
	dir := t.TempDir()
	certFile, keyFile, secretFile := dir+"/cert.pem", dir+"/key.pem", write(t, dir, "secret", secret)
	certificate(t, certFile, keyFile)
	server, log, addr := serveProcess(t, "--tls-cert="+certFile, "--tls-key="+keyFile, "--jwt-secret-file="+secretFile)
	url, token := "https://"+addr, must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=alice")
	clients := sized(50, 200, 1000)

	done := make(chan struct{})
	var reloads sync.WaitGroup
	var reloaded atomic.Int64
	reloads.Go(func() { // ends with done
		for serial := int64(2); ; serial++ {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
			cert, key := pair(t, serial, time.Hour)
			replace(t, certFile, cert)
			replace(t, secretFile, secret+strings.Repeat("\n", int(serial%2)))
			replace(t, keyFile, key)
			if err := server.Process.Signal(syscall.SIGHUP); err != nil {
				t.Error(err)
				return
			}
			// A reload that is late would find the next pair half replaced.
			line := fmt.Sprintf(`"serial":"%x"`, serial)
			if !poll(time.Millisecond, patience, func() bool { return strings.Contains(log.String(), line) }) {
				t.Errorf("certificate %x not reloaded after %v", serial, patience)
				return
			}
			reloaded.Add(1)
		}
	})
	by, all := anyCertificate(t, false), make(chan *lines, clients)
	var joins sync.WaitGroup
	for range 8 {
		joins.Go(func() {
			for i := range clients / 8 {
				// At least one reload for each quarter of the joins, also on a slow machine.
				if want := int64(4 * i / (clients / 8)); !poll(time.Millisecond, patience, func() bool { return reloaded.Load() >= want }) {
					t.Errorf("got %d reloads in %v, want %d", reloaded.Load(), patience, want)
					return
				}
				_, l := streamed(t, by, url, token)
				all <- l
			}
		})
	}
	joins.Wait()
	close(done)
	reloads.Wait()
	close(all)
	var streams []*lines
	count := fmt.Sprintf("data: %d\nevent: user count", clients/8*8)
	for l := range all { // the last stream to join may have the count since its start
		if !strings.Contains(l.String(), count) {
			l.find(t, strings.Split(count, "\n")[0])
		}
		streams = append(streams, l)
	}
	if resp := request(t, by, "POST", url+"/messages", token, `{"data":"to all"}`); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("POST /messages: got %s", resp.Status)
	}
	for _, l := range streams {
		l.find(t, "to all")
	}
	if got := strings.Count(log.String(), `"certificate reloaded"`); got < 3 {
		t.Errorf("got %d reloads of the certificate, want at least 3", got)
	}
	if log := log.String(); strings.Contains(log, "not reloaded") || strings.Contains(log, "TLS handshake error") {
		t.Errorf("got an error in the log:\n%s", log)
	}
}
