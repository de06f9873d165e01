package main

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence/metrics"
)

// faulty is a server with one fault.
type faulty struct {
	t       *testing.T
	process *exec.Cmd
	log     *lines
	addr    string
	scheme  string
	client  *http.Client
	before  samples
}

// startFaulty starts a server process with these arguments.
func startFaulty(t *testing.T, args ...string) *faulty {
	t.Helper()
	return startFaultyOver(t, "http", args...)
}

func startFaultyOver(t *testing.T, scheme string, args ...string) *faulty {
	t.Helper()
	f := &faulty{t: t, scheme: scheme, client: &http.Client{Transport: anyCertificate(t, false)}}
	f.process, f.log, f.addr = serveProcess(t, args...)
	t.Cleanup(f.client.CloseIdleConnections)
	f.before = f.scrape()
	return f
}

func (f *faulty) scrape() samples {
	f.t.Helper()
	return scrape(f.t, f.client, f.scheme+"://"+f.addr+"/metrics")
}

// ask sends a request with a token and returns the status.
func (f *faulty) ask(method, path, token, body string) int {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), method, f.scheme+"://"+f.addr+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		r.Header.Set("Content-Type", "text/plain")
	}
	answer, err := f.client.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer answer.Body.Close()
	io.Copy(io.Discard, answer.Body)
	return answer.StatusCode
}

// moved waits until a series has another value than at the start, for which ok holds.
func (f *faulty) moved(series string, ok func(before, now float64) bool) {
	f.t.Helper()
	before, known := f.before[series]
	if !known {
		f.t.Errorf("%s: no such series at the start", series)
	}
	var now float64
	var exists bool
	if !poll(50*time.Millisecond, patience, func() bool { now, exists = f.scrape()[series]; return exists && ok(before, now) }) {
		f.t.Errorf("%s: got %v at the start and %v (exists: %v) now, want it changed by the fault", series, before, now, exists)
	}
}

func grows(before, now float64) bool { return now > before }
func falls(before, now float64) bool { return now < before }

// Each of these faults changes a metric, and the log names the cause. The runbook of
// docs/operations.md has an entry for it. TestHookSlow of package metrics has the tenth.
func TestOperatorSeesFaults(t *testing.T) {
	runbook := readOperations(t)
	user := func(sub string) string {
		return must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub="+sub, "--join=*", "--send=*")
	}
	alice := user("alice")
	bus, secretFile := startNATS(t), write(t, t.TempDir(), "secret", secret)
	for name, c := range map[string]struct {
		args   []string
		inject func(*testing.T, *faulty)
		series string
		ok     func(before, now float64) bool
		line   string // parts of the line, separated by …
	}{
		"secret wrong": {
			inject: func(t *testing.T, f *faulty) {
				other := must(t, env{"PRESENCE_JWT_SECRET": strings.Repeat("another secret ", 3)}, "token", "--sub=alice")
				if got := f.ask("GET", "/presence", other, ""); got != http.StatusUnauthorized {
					t.Errorf("got %d, want 401", got)
				}
			},
			series: `presence_auth_failures_total{reason="signature"}`, ok: grows,
			line: `"level":"WARN","msg":"request refused","cause":"token","reason":"signature"`,
		},
		"rate exceeded": {
			args: []string{"--message-rate=0.01", "--message-burst=1"},
			inject: func(t *testing.T, f *faulty) {
				f.ask("POST", "/messages", alice, "one")
				if got := f.ask("POST", "/messages", alice, "two"); got != http.StatusTooManyRequests {
					t.Errorf("got %d, want 429", got)
				}
			},
			series: `presence_refusals_total{reason="rate"}`, ok: grows,
			line: `"level":"WARN","msg":"request refused","cause":"rate"…"user":"alice"`,
		},
		"rooms full": {
			args: []string{"--max-rooms=1", "--full-status=503"},
			inject: func(t *testing.T, f *faulty) {
				watchRoom(t, f, "one", alice)
				if got := f.ask("GET", "/events?room=two", user("bob"), ""); got != http.StatusServiceUnavailable {
					t.Errorf("got %d, want 503", got)
				}
			},
			series: `presence_refusals_total{reason="rooms"}`, ok: grows,
			line: `"level":"WARN","msg":"request refused","cause":"rooms"…"detail":"room limit reached (1)"`,
		},
		"history full": {
			args: []string{"--history-bytes=4096", "--message-rate=0"},
			inject: func(_ *testing.T, f *faulty) {
				for range 20 {
					f.ask("POST", "/messages", alice, strings.Repeat("x", 1000))
				}
			},
			series: `presence_history_evictions_total`, ok: grows,
			line: `"level":"WARN","msg":"history byte limit reached: the user with the most bytes loses the oldest messages of its largest room"…"limit":4096`,
		},
		"slow readers": {
			args: []string{"--message-rate=0"},
			inject: func(t *testing.T, f *faulty) {
				conn := watchRoom(t, f, "lobby", alice)
				unreadUntil(t, f, alice, conn, `presence_streams_ended_total{reason="slow"}`)
			},
			series: `presence_streams_ended_total{reason="slow"}`, ok: grows,
			line: `"level":"WARN","msg":"slow consumer disconnected"…"user":"alice"`,
		},
		"descriptors out": {
			inject: exhaustFiles,
			series: `presence_accept_failures_total`, ok: grows,
			line: `"level":"WARN"…too many open files`,
		},
		"NATS cut": {
			args: []string{"--nats=" + bus.url, "--nats-replicas=1"},
			inject: func(t *testing.T, _ *faulty) {
				if err := bus.process.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			},
			series: `presence_backplane_up`, ok: falls,
			line: `"level":"WARN","msg":"backplane not connected"`,
		},
		"reload failed": {
			args: []string{"--jwt-secret-file=" + secretFile},
			inject: func(t *testing.T, f *faulty) {
				replace(t, secretFile, "too short")
				if err := f.process.Process.Signal(unix.SIGHUP); err != nil {
					t.Fatal(err)
				}
			},
			series: `presence_config_last_reload_successful`, ok: falls,
			line: `"level":"ERROR","msg":"keys not reloaded: previous keys in use"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heavy(t)
			f := startFaulty(t, c.args...)
			c.inject(t, f)
			f.hasLine(c.line)
			f.moved(c.series, c.ok)
			f.inRunbook(runbook, c.series)
		})
	}
}

// A server with an expired certificate serves on, and reports it.
func TestOperatorSeesExpiredCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := pair(t, 1, -time.Minute)
	f := startFaultyOver(t, "https", "--tls-cert="+write(t, dir, "cert.pem", cert), "--tls-key="+write(t, dir, "key.pem", key))
	const series = "presence_certificate_expiry_timestamp_seconds"
	if got, want := f.before[series], float64(leafOf(t, cert).NotAfter.Unix()); got != want || want > float64(time.Now().Unix()) {
		t.Errorf("got expiry %v, want %v, in the past", got, want)
	}
	f.hasLine(`"level":"WARN","msg":"certificate expired: clients reject it"`)
	f.inRunbook(readOperations(t), series)
}

// leafOf parses a certificate in PEM.
func leafOf(t *testing.T, cert string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(cert))
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// A server counts and dates its reloads, and the fetches of its JWK Set. It keeps its keys if the
// new ones are invalid.
func TestOperatorSeesReloads(t *testing.T) {
	t.Parallel()
	dir, began := t.TempDir(), float64(time.Now().UnixNano())/1e9
	first, firstKey := pair(t, 1, time.Hour)
	second, secondKey := pair(t, 2, 1000*time.Hour)
	certFile, keyFile, secretFile := write(t, dir, "cert.pem", first), write(t, dir, "key.pem", firstKey), write(t, dir, "secret", secret)
	set := startJWKS(t, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`) // RFC 8037 appendix A.2
	f := startFaultyOver(t, "https", "--tls-cert="+certFile, "--tls-key="+keyFile, "--jwt-secret-file="+secretFile, "--jwks-url="+set.URL)
	const expiry, ok, success = "presence_certificate_expiry_timestamp_seconds", "presence_config_last_reload_successful", "presence_config_last_reload_success_timestamp_seconds"
	recent := func(_, now float64) bool { return now > began && now < float64(time.Now().UnixNano())/1e9 }
	f.before["presence_jwks_last_success_timestamp_seconds"] = 0
	f.moved("presence_jwks_last_success_timestamp_seconds", recent)
	f.moved(success, recent)
	for series, want := range map[string]float64{
		expiry: float64(leafOf(t, first).NotAfter.Unix()), "presence_certificate_not_before_timestamp_seconds": float64(leafOf(t, first).NotBefore.Unix()), ok: 1, "presence_jwks_fetch_failures_total": 0, "presence_log_write_failures_total": 0,
		fmt.Sprintf("presence_build_info{goversion=%q,version=%q}", runtime.Version(), buildVersion()): 1,
	} {
		if got, exists := f.before[series]; got != want || !exists {
			t.Errorf("%s: got %v (exists: %v), want %v", series, got, exists, want)
		}
	}

	reload := func() {
		t.Helper()
		f.before = f.scrape()
		if err := f.process.Process.Signal(unix.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	replace(t, certFile, second)
	replace(t, keyFile, secondKey)
	reload()
	f.moved(success, grows)
	f.moved(expiry, func(_, now float64) bool { return now == float64(leafOf(t, second).NotAfter.Unix()) })

	replace(t, secretFile, "too short")
	reload()
	f.log.find(t, `"keys not reloaded: previous keys in use"`)
	f.log.find(t, `"certificate reloaded"`)
	f.moved(ok, falls)
	if got := f.scrape()[success]; got != f.before[success] {
		t.Errorf("after a failed reload: got the time %v of a successful one, want that before, %v", got, f.before[success])
	}
	replace(t, secretFile, secret)
	reload()
	f.moved(ok, grows)
	f.moved(success, grows)
}

// commandMetrics has, for each metric of the command, the test that changes it. The other metrics
// are those of package metrics, which has a test for each.
var commandMetrics = map[string]func(*testing.T){
	"presence_build_info":                                   TestOperatorSeesReloads,
	"presence_certificate_expiry_timestamp_seconds":         TestOperatorSeesReloads,
	"presence_certificate_not_before_timestamp_seconds":     TestOperatorSeesReloads,
	"presence_config_last_reload_successful":                TestOperatorSeesReloads,
	"presence_config_last_reload_success_timestamp_seconds": TestOperatorSeesReloads,
	"presence_jwks_last_success_timestamp_seconds":          TestOperatorSeesReloads,
	"presence_jwks_fetch_failures_total":                    TestOperatorSeesJWKSGone,
	"presence_log_write_failures_total":                     TestOperatorSeesFullDisk,
}

// Each metric has a test that changes it.
func TestEachMetricHasATest(t *testing.T) {
	t.Parallel()
	library, descs := map[string]bool{}, make(chan *prometheus.Desc)
	go func() { metrics.New().Describe(descs); close(descs) }() // ends when all are received
	for d := range descs {
		library[regexp.MustCompile(`fqName: "([a-z_]+)"`).FindStringSubmatch(d.String())[1]] = true
	}
	for series := range metricNames(t) {
		name := series
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(series, suffix); library[base] {
				name = base
			}
		}
		if strings.HasPrefix(name, "presence_") && library[name] == (commandMetrics[name] != nil) {
			t.Errorf("%s: metric of package metrics: %v, test of the command: %v, want one of both", name, library[name], commandMetrics[name] != nil)
		}
	}
}

// A server whose log is on a full disk counts the lost lines, and serves on.
func TestOperatorSeesFullDisk(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	addr := "127.0.0.1:" + quietPort(t) // the log cannot name it
	process := exec.Command(executable(t), "serve", "--listen="+addr)
	process.Env, process.Stderr = []string{asCommand + "=1", "PRESENCE_JWT_SECRET=" + secret}, full
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { process.Process.Kill(); process.Wait() })
	f := &faulty{t: t, process: process, addr: addr, scheme: "http", client: &http.Client{}}
	t.Cleanup(f.client.CloseIdleConnections)
	eventually(t, patience, "the server listens", func() bool {
		answer, err := f.client.Get("http://" + f.addr + "/healthz")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	const series = "presence_log_write_failures_total"
	f.before = f.scrape()
	if got := f.before[series]; got < 1 {
		t.Errorf("got %v lost lines, want at least 1", got)
	}
	f.ask("GET", "/presence", "bad", "") // a refusal has a line
	f.moved(series, func(before, now float64) bool { return now == before+1 })
	f.inRunbook(readOperations(t), series)
}

// A server that cannot fetch its JWK Set refuses tokens, and reports both.
func TestOperatorSeesJWKSGone(t *testing.T) {
	t.Parallel()
	set := startJWKS(t, `{"keys":[]}`)
	set.broken.Store(true)
	log := newServerLog(t)
	process := exec.Command(executable(t), "serve", "--log-format=json", "--listen=127.0.0.1:0", "--jwks-url="+set.URL)
	process.Env, process.Stderr = []string{asCommand + "=1"}, log
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { process.Process.Kill(); process.Wait(); log.Close() })
	var line struct{ Addr string }
	if err := json.Unmarshal([]byte(log.find(t, `"listening"`)), &line); err != nil {
		t.Fatal(err)
	}
	f := &faulty{t: t, process: process, log: log, addr: line.Addr, scheme: "http", client: &http.Client{}, before: samples{
		`presence_jwks_fetch_failures_total`: 0, `presence_auth_failures_total{reason="keys_unavailable"}`: 0,
	}}
	t.Cleanup(f.client.CloseIdleConnections)
	const token = "eyJhbGciOiJFZERTQSIsImtpZCI6IjEifQ.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl" // EdDSA, kid 1
	if got := f.ask("GET", "/presence", token, ""); got != http.StatusServiceUnavailable {
		t.Errorf("got %d, want 503", got)
	}
	f.hasLine(`"level":"WARN","msg":"JWK Set fetch failed"`)
	f.moved(`presence_jwks_fetch_failures_total`, grows)
	f.moved(`presence_auth_failures_total{reason="keys_unavailable"}`, grows)
	f.inRunbook(readOperations(t), `presence_jwks_last_success_timestamp_seconds`)
	if got := f.scrape()["presence_jwks_last_success_timestamp_seconds"]; got != 0 {
		t.Errorf("got a successful fetch at %v, want 0 for none", got)
	}
}

// The first lines of the log have the version and the limits, and the last one has the totals.
func TestOperatorSeesTotals(t *testing.T) {
	t.Parallel()
	began := time.Now()
	server, addr := serving(t, env{"PRESENCE_JWT_SECRET": secret}, "--listen=127.0.0.1:0", "--linger=0s", "--heartbeat=5m",
		"--max-connections=70", "--max-idle-connections=30")
	token := func(sub string) string { return must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub="+sub) }
	f := &faulty{t: t, addr: addr, scheme: "http", client: &http.Client{Transport: anyCertificate(t, false)}, log: server.stderr}
	f.before = f.scrape()
	watchRoom(t, f, "lobby", token("alice"))
	watchRoom(t, f, "lobby", token("alice"))
	f.moved("presence_joins_total", func(_, now float64) bool { return now == 1 })
	bob := watchRoom(t, f, "lobby", token("bob"))
	f.moved("presence_joins_total", func(_, now float64) bool { return now == 2 })
	bob.Close()
	f.moved(`presence_leaves_total{reason="closed"}`, func(_, now float64) bool { return now == 1 })
	for range 4 {
		f.ask("POST", "/messages", token("alice"), "hello")
	}
	f.moved("presence_deliveries_total", func(before, now float64) bool { return now >= before+2*4 })
	for path, want := range map[string]int{"/none": 404, "/presence?room=other": 403, "/presence?room=a/b": 400, "/rooms": 403} {
		if got := f.ask("GET", path, token("alice"), ""); got != want {
			t.Errorf("GET %s: got %d, want %d", path, got, want)
		}
	}
	deliveries := f.scrape()["presence_deliveries_total"]
	server.end()
	if exit := server.exit(); exit != 0 {
		t.Errorf("got exit status %d", exit)
	}

	lines := strings.Split(server.stderr.String(), "\n")
	f.hasLine(fmt.Sprintf(`"level":"INFO","msg":"limits","open_files":%d,"reserved_files":200,"max_connections":70,"max_connections_per_user":0,"max_idle_connections":30,`, openFiles()))
	f.hasLine(`"level":"INFO","msg":"shutting down","grace":"8s"}`)
	first, last := lineOfServe(t, lines[0]), lineOfServe(t, lines[len(lines)-1])
	if want := (serveLine{Level: "INFO", Msg: "starting", Version: buildVersion(), Go: runtime.Version(), PID: os.Getpid()}); first != want {
		t.Errorf("first line: got %+v, want %+v", first, want)
	}
	if after, err := time.ParseDuration(last.After); err != nil || after <= 0 || after > time.Since(began) {
		t.Errorf("last line: got after %q (%v), want the time of the server", last.After, err)
	}
	if last.Deliveries < deliveries || last.Deliveries > deliveries+10 { // the last user count may be later
		t.Errorf("last line: got %v deliveries, want %v or a few more", last.Deliveries, deliveries)
	}
	last.After, last.Deliveries = "", 0
	if want := (serveLine{Level: "INFO", Msg: "stopped", Streams: 3, Joins: 2, Leaves: 1, Messages: 4, Refusals: 4}); last != want {
		t.Errorf("last line: got %+v, want %+v", last, want)
	}
}

// serveLine is the first or the last line of a server's log.
type serveLine struct {
	Level, Msg                                 string
	Version, Go                                string
	PID                                        int
	After                                      string
	Streams, Joins, Leaves, Messages, Refusals int
	Deliveries                                 float64
}

func lineOfServe(t *testing.T, text string) (line serveLine) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &line); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return line
}

// hasLine waits for a line of the log that has all parts.
func (f *faulty) hasLine(parts string) {
	f.t.Helper()
	has := func() bool {
		for line := range strings.Lines(f.log.String()) {
			all := true
			for part := range strings.SplitSeq(parts, "…") {
				all = all && strings.Contains(line, part)
			}
			if all {
				return true
			}
		}
		return false
	}
	if !poll(50*time.Millisecond, patience, has) {
		f.t.Errorf("got no line with %s:\n%s", parts, f.log)
	}
}

// inRunbook checks that the runbook has an entry with the metric.
func (f *faulty) inRunbook(runbook, series string) {
	f.t.Helper()
	_, entries, found := strings.Cut(runbook, "\n## Runbooks")
	name, _, _ := strings.Cut(series, "{")
	if !found || !strings.Contains(entries, name) {
		f.t.Errorf("docs/operations.md: the runbook does not name %s", name)
	}
}

// watchRoom opens a stream that the caller may read, and returns when the client is counted.
func watchRoom(t *testing.T, f *faulty, room, token string) net.Conn {
	t.Helper()
	s := &target{addr: f.addr, token: token}
	return s.open(t, room)
}

// unreadUntil posts messages to the lobby until the series has changed. The client conn reads
// nothing.
func unreadUntil(t *testing.T, f *faulty, token string, conn net.Conn, series string) {
	t.Helper()
	text := strings.Repeat("x", 60_000)
	eventually(t, patience, series+" changes", func() bool {
		for range 100 {
			f.ask("POST", "/messages", token, text)
		}
		return f.scrape()[series] > f.before[series]
	})
	conn.Close()
}

// exhaustFiles lowers the open-file limit of the server to the number of its open files, and opens
// one more connection. Later, the limit is the old one.
func exhaustFiles(t *testing.T, f *faulty) {
	pid := f.process.Process.Pid
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	var old unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		t.Fatal(err)
	}
	low := unix.Rlimit{Cur: uint64(len(open)), Max: old.Max}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &low, nil); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		conn, err := net.Dial("tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	f.hasLine("too many open files")
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &old, nil); err != nil {
		t.Fatal(err)
	}
}

// jwksServer serves a JWK Set, and errors while it is broken.
type jwksServer struct {
	*httptest.Server
	broken atomic.Bool
}

func startJWKS(t *testing.T, set string) *jwksServer {
	t.Helper()
	s := new(jwksServer)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if s.broken.Load() {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		io.WriteString(w, set)
	}))
	t.Cleanup(s.Close)
	return s
}
