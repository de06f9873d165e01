package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// terminate sends SIGTERM, and fails unless the server ends with the status 0 and without SIGKILL.
func terminate(t *testing.T, server *exec.Cmd, log fmt.Stringer) {
	t.Helper()
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(patience, func() { server.Process.Kill() })
	defer kill.Stop()
	if err := server.Wait(); err != nil {
		t.Errorf("end of the server: %v\n%s", err, log)
	}
}

// A reader of the log that stops blocks neither requests nor the end of the server.
func TestLogReaderStops(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // its address is known without a line
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" serve --dev --log-level=debug --listen=systemd`, self)
	server.Env = []string{asCommand + "=1", "PRESENCE_JWT_SECRET=" + secret}
	server.Stderr, server.ExtraFiles = w, []*os.File{file}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Kill(); server.Wait() })
	w.Close()
	url := "http://" + l.Addr().String()
	l.Close()
	token := must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=alice")
	_, stream := streamed(t, http.DefaultTransport, url, token)
	for range 100 { // 20 KiB of lines
		io.Copy(io.Discard, request(t, http.DefaultTransport, "GET", url+"/presence", token, "").Body)
	}
	if err := server.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	terminate(t, server, new(bytes.Buffer)) // nothing reads its log
	stream.find(t, `"reason":"draining"`)
}

// A pipe in place of a file is an error of the reload. The previous secret stays in use, and the
// server can end.
func TestReloadOfPipe(t *testing.T) {
	t.Parallel()
	file := write(t, t.TempDir(), "secret", secret)
	server, log, addr := serveProcess(t, "--jwt-secret-file="+file)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := server.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if line := log.find(t, "keys not reloaded"); !strings.Contains(line, "read again "+file+": not a regular file") {
		t.Errorf("got %s, want the file and the reason", line)
	}
	token := must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=alice")
	if resp := request(t, http.DefaultTransport, "GET", "http://"+addr+"/presence", token, ""); resp.StatusCode != http.StatusOK {
		t.Errorf("GET /presence: got %s, want 200", resp.Status)
	}
	terminate(t, server, log)
}

// A SIGHUP while the server starts does not end it. It causes a reload when the server has started.
func TestHangupDuringStart(t *testing.T) {
	t.Parallel()
	pipe := t.TempDir() + "/secret"
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := newServerLog(t)
	server := exec.Command(self, "serve", "--log-format=json", "--listen=127.0.0.1:0", "--jwt-secret-file="+pipe)
	server.Env = []string{asCommand + "=1"}
	server.Stderr = log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Kill(); server.Wait(); log.Close() })
	secretFile, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits until the server reads its secret
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	io.WriteString(secretFile, secret)
	secretFile.Close()
	log.find(t, "keys not reloaded") // the pipe cannot be read again
	terminate(t, server, log)
}

// brokenWriter is a response whose client has disconnected.
type brokenWriter struct{ *httptest.ResponseRecorder }

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// A client that disconnects during a scrape causes no line. An incomplete scrape has one per
// minute.
func TestScrapeErrors(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	keys, err := keyFlags{secretFlags: secretFlags{JWTSecret: secret}}.open(context.Background(), log)
	if err != nil {
		t.Fatal(err)
	}
	m := newMeasured(log, newReloader(log, keys, nil), keys.jwt, new(logQueue))
	for range 20 {
		m.handler.ServeHTTP(brokenWriter{httptest.NewRecorder()}, httptest.NewRequest("GET", "/metrics", nil))
	}
	if out.Len() > 0 {
		t.Errorf("a client that disconnects: got log %s", &out)
	}
	errs := &scrapeErrors{log: log}
	for i := range 3 {
		errs.Println("error gathering metrics:", fmt.Errorf("fault %d", i))
	}
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `level=WARN msg="metrics incomplete" err="error gathering metrics: fault 0"`) {
		t.Errorf("got %s, want one line with the first fault", got)
	}
}

// Clients that ask for the same format while another one waits share the text. No text is older
// than its request.
func TestScrapesShareText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rendered atomic.Int32
		s := newScrapes(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n := rendered.Add(1)
			time.Sleep(time.Millisecond)
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprint(w, "metrics ", n)
		}))
		ask := func(accept, want string, took time.Duration) {
			t.Helper()
			began := time.Now()
			r := httptest.NewRequest("GET", "/metrics", nil)
			r.Header.Set("Accept", accept)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if got := w.Body.String(); got != want || w.Code != http.StatusAccepted || w.Header().Get("Content-Length") != fmt.Sprint(len(want)) || time.Since(began) != took {
				t.Errorf("%s: got %d, %q with the headers %v after %v, want %q after %v", accept, w.Code, got, w.Header(), time.Since(began), want, took)
			}
		}
		const text, protobuf = "text/plain", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
		ask(text, "metrics 1", time.Millisecond)
		ask(text, "metrics 2", renderTime) // 49 ms after the first one
		time.Sleep(renderTime)
		var all sync.WaitGroup
		all.Go(func() { ask(text, "metrics 3", time.Millisecond) })
		synctest.Wait() // until that one is being rendered
		for range 10 {
			all.Go(func() { ask(text, "metrics 4", renderTime+time.Millisecond) })
		}
		synctest.Wait()
		all.Go(func() { ask(protobuf, "metrics 5", 2*renderTime+time.Millisecond) })
		all.Wait()
		if len(s.next) != 0 {
			t.Errorf("%d formats left", len(s.next))
		}
	})
}

// A file that is too large for a key is not read into memory.
func TestLargeFile(t *testing.T) {
	file := write(t, t.TempDir(), "secret", strings.Repeat("x", maxFile))
	if content, err := readRegular(file); err != nil || len(content) != maxFile {
		t.Errorf("file of 1 MiB: got %d bytes, %v", len(content), err)
	}
	if err := os.Truncate(file, 1<<40); err != nil {
		t.Fatal(err)
	}
	_, stderr, exit := command(t, nil, "serve", "--jwt-secret-file="+file)
	if want := "presence: --jwt-secret-file: read " + file + ": larger than 1 MiB\n"; exit != 2 || stderr != want {
		t.Errorf("file of 1 TiB: got exit status %d, %q; want 2, %q", exit, stderr, want)
	}
}
