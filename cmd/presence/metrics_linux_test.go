package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime/pprof"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"go.uber.org/goleak"
)

// metricsAddr returns the address of the metrics listener of a server that has started.
func metricsAddr(t *testing.T, log *lines) string {
	t.Helper()
	for text := range strings.Lines(log.String()) {
		var line struct{ Msg, Addr string }
		if json.Unmarshal([]byte(text), &line) == nil && line.Msg == "metrics listening" {
			return line.Addr
		}
	}
	t.Fatalf("no line about the metrics listener:\n%s", log)
	return ""
}

// statusOf returns the status of a response without a body, or with one that is read.
func statusOf(t *testing.T, client *http.Client, method, url string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode
}

// descriptors returns the number of open files of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// With --metrics-listen, the metrics and the profiles are there and nowhere else, and nothing else
// is there. Without it, the metrics are on the public listener, and there are no profiles.
func TestMetricsListen(t *testing.T) {
	e := env{"PRESENCE_JWT_SECRET": secret}
	_, alone := serving(t, e, "--listen=127.0.0.1:0")
	server, public := serving(t, e, "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0")
	private := metricsAddr(t, server.stderr)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for addr, paths := range map[string]map[int]string{
		alone:  {200: "/metrics /healthz", 404: "/debug/pprof /debug/pprof/ /debug/pprof/heap /debug/pprof/cmdline"},
		public: {200: "/healthz", 404: "/metrics /debug/pprof /debug/pprof/ /debug/pprof/heap /debug/pprof/cmdline"},
		private: {
			200: "/metrics /debug/pprof/ /debug/pprof/heap /debug/pprof/goroutine?debug=1 /debug/pprof/trace?seconds=0.01",
			404: "/ /index.html /healthz /readyz /events /presence /session /metrics/ /metrics/x /debug /debug/ /debug/vars /debug/pprof/none /debug/pprof/cmdline /debug/pprof/symbol",
		},
	} {
		for want, all := range paths {
			for path := range strings.FieldsSeq(all) {
				if got := statusOf(t, client, "GET", "http://"+addr+path); got != want {
					t.Errorf("GET %s (public %v, metrics %v): got %d, want %d", path, addr != private, addr == private, got, want)
				}
			}
		}
	}
	for method, want := range map[string]int{"HEAD": 200, "POST": 405, "DELETE": 405} {
		if got := statusOf(t, client, method, "http://"+private+"/metrics"); got != want {
			t.Errorf("%s /metrics: got %d, want %d", method, got, want)
		}
	}
}

// The end of the server closes the metrics listener and its connections: an idle one, one with half
// a request, and one with a profile in progress. Nothing remains.
func TestMetricsListenEnds(t *testing.T) {
	before, goroutines := descriptors(t), goleak.IgnoreCurrent()
	server, _ := serving(t, env{"PRESENCE_JWT_SECRET": secret}, "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0")
	private := metricsAddr(t, server.stderr)
	var conns []net.Conn
	for _, text := range []string{"GET /none HTTP/1.1\r\nHost: x\r\n\r\n", "GET /metrics HTT", "GET /debug/pprof/profile?seconds=600 HTTP/1.1\r\nHost: x\r\n\r\n"} {
		conn, err := net.Dial("tcp", private)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, text)
		conns = append(conns, conn)
	}
	eventually(t, patience, "the profile is in progress", func() bool {
		_, text := get(t, "http://"+private+"/debug/pprof/goroutine?debug=1")
		return strings.Contains(text, "net/http/pprof.Profile+")
	})

	server.end()
	if exit := server.exit(); exit != 0 {
		t.Errorf("exit status %d\n%s", exit, server.stderr)
	}
	for i, conn := range conns {
		if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("connection %d: got %v, want it closed", i, err)
		}
		conn.Close()
	}
	if conn, err := net.Dial("tcp", private); err == nil {
		conn.Close()
		t.Error("metrics listener open after the end")
	}
	eventually(t, patience, "the profile ends", func() bool { return pprof.StartCPUProfile(io.Discard) == nil })
	pprof.StopCPUProfile()
	if err := goleak.Find(goroutines); err != nil {
		t.Error(err)
	}
	eventually(t, patience, "all files are closed", func() bool { return descriptors(t) <= before })
}

// An invalid address is a usage error. One that the server cannot listen on is an error, and the
// public listener is closed then.
func TestMetricsListenErrors(t *testing.T) {
	for _, addr := range []string{"9090", ":", ":http", ":65536", ":-1", "127.0.0.1", "[::1", "::1:9090", "127.0.0.1:9090:1", "unix:/run/metrics", "http://127.0.0.1:9090"} {
		for _, args := range [][]string{{"serve", "--dev"}, {"serve", "--dev", "--check"}} {
			_, stderr, exit := command(t, env{"PRESENCE_METRICS_LISTEN": addr}, args...)
			want := fmt.Sprintf("presence: --metrics-listen: %q is not [host]:port with a port from 0 to 65535\n", addr)
			if exit != 2 || stderr != want {
				t.Errorf("%q with --metrics-listen %q: exit status %d\n%swant 2 and %s", args, addr, exit, stderr, want)
			}
		}
	}
	for _, addr := range []string{"127.0.0.1:0", ":0", "localhost:0", "[::1]:65535"} {
		must(t, nil, "serve", "--dev", "--check", "--metrics-listen="+addr)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	public, socket := freeAddr(t), t.TempDir()+"/s"
	for addr, want := range map[string]string{
		taken.Addr().String(): "address already in use",
		"192.0.2.1:9090":      "cannot assign requested address",
	} {
		for _, listen := range []string{public, "unix:" + socket} {
			_, stderr, exit := command(t, nil, "serve", "--dev", "--log-level=error", "--listen="+listen, "--metrics-listen="+addr)
			if want := "presence: --metrics-listen: listen tcp " + addr + ": bind: " + want + "\n"; exit != 1 || stderr != want {
				t.Errorf("--metrics-listen %s: exit status %d\n%swant 1 and %s", addr, exit, stderr, want)
			}
		}
	}
	if conn, err := net.Dial("tcp", public); err == nil {
		conn.Close()
		t.Error("public listener open after the error")
	}
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the file of the public socket remains")
	}
	_, stderr, exit := command(t, nil, "serve", "--dev", "--log-level=error", "--listen="+public, "--metrics-listen="+public)
	if exit != 1 || !strings.Contains(stderr, "listen: listen tcp "+public+": bind: address already in use") {
		t.Errorf("the same address twice: exit status %d\n%s", exit, stderr)
	}
}

// checkMetrics checks the text of GET /metrics with promtool, which must print nothing. It returns
// the names of the time series.
func checkMetrics(t *testing.T, client *http.Client, url string) map[string]bool {
	t.Helper()
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var text bytes.Buffer
	lint := exec.Command("promtool", "check", "metrics")
	lint.Stdin = io.TeeReader(answer.Body, &text)
	if out, err := lint.CombinedOutput(); err != nil || len(out) > 0 || answer.StatusCode != http.StatusOK {
		t.Errorf("promtool check metrics: %s, %v\n%s", answer.Status, err, out)
	}
	names := map[string]bool{}
	for line := range strings.Lines(text.String()) {
		if name := regexp.MustCompile(`^[a-z_]+`).FindString(line); name != "" {
			names[name] = true
		}
	}
	return names
}

// histograms scrapes the format of Prometheus with native buckets, and returns the histograms.
func histograms(t *testing.T, client *http.Client, url string) map[string]*dto.Histogram {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	all, families := map[string]*dto.Histogram{}, expfmt.NewDecoder(answer.Body, expfmt.ResponseFormat(answer.Header))
	for {
		var f dto.MetricFamily
		if err := families.Decode(&f); errors.Is(err, io.EOF) {
			return all
		} else if err != nil || expfmt.ResponseFormat(answer.Header).FormatType() != expfmt.TypeProtoDelim {
			t.Fatalf("got %s, %v, want delimited protobuf", answer.Header.Get("Content-Type"), err)
		}
		if f.GetType() == dto.MetricType_HISTOGRAM {
			all[f.GetName()] = f.Metric[0].Histogram
		}
	}
}

// checkNative checks that a histogram has native buckets with all samples, beside classic ones.
func checkNative(t *testing.T, name string, h *dto.Histogram) {
	t.Helper()
	var inBucket, all int64
	for _, delta := range h.GetPositiveDelta() { // the difference to the bucket before
		inBucket += delta
		all += inBucket
	}
	all += int64(h.GetZeroCount())
	if h.GetSchema() != 3 || all == 0 || all != int64(h.GetSampleCount()) || len(h.Bucket) < 10 {
		t.Errorf("%s: got %d samples in native buckets of schema %d, and %d classic buckets; want %d samples, schema 3 (each bucket 9 %% wide), and at least 10",
			name, all, h.GetSchema(), len(h.Bucket), h.GetSampleCount())
	}
}

// The metrics of a server on its own, and of a node of a cluster with all other settings that add
// metrics: promtool finds no fault in them, and together they are the metrics that the alerts, the
// dashboard and docs/operations.md may use. The histograms have native buckets. While the node
// drains, it still serves them.
func TestMetricsOutput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := pair(t, 1, time.Hour)
	set := startJWKS(t, `{"keys":[]}`)
	node, log, addr := serveProcess(t, "--nats="+startNATS(t).url, "--nats-replicas=1", "--tls-cert="+write(t, dir, "cert.pem", cert),
		"--tls-key="+write(t, dir, "key.pem", key), "--jwks-url="+set.URL, "--max-connections=100", "--metrics-listen=127.0.0.1:0", "--shutdown-grace=5m")
	private := "http://" + metricsAddr(t, log)
	client := &http.Client{Transport: anyCertificate(t, false)}
	token := must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=alice")
	for range 3 {
		streamed(t, client.Transport, "https://"+addr, token)
	}
	_, _, single := serveProcess(t)

	names := checkMetrics(t, client, private+"/metrics")
	maps.Copy(names, checkMetrics(t, client, "http://"+single+"/metrics"))
	want := metricNames(t)
	for name := range want {
		if !names[name] {
			t.Errorf("no metric %s", name)
		}
	}
	for name := range names {
		if strings.HasPrefix(name, "presence_") && !want[name] {
			t.Errorf("%s: not in metricNames", name)
		}
	}

	counted := func(name string) float64 { return scrape(t, client, private+"/metrics")["presence_"+name+"_count"] }
	for _, name := range []string{"join_to_count_seconds", "loop_pass_seconds", "backplane_round_trip_seconds"} {
		eventually(t, patience, name+" has samples", func() bool { return counted(name) > 0 })
		before := counted(name)
		h := histograms(t, client, private+"/metrics")["presence_"+name]
		if got, after := float64(h.GetSampleCount()), counted(name); got < before || got > after {
			t.Errorf("%s: got %v samples, want %v to %v", name, got, before, after)
		}
		checkNative(t, name, h)
	}

	node.Process.Signal(syscall.SIGTERM)
	log.find(t, `"shutting down"`)
	eventually(t, patience, "presence_draining is 1", func() bool {
		return scrape(t, client, private+"/metrics")["presence_draining"] == 1
	})
	if got := statusOf(t, client, "GET", private+"/debug/pprof/heap"); got != http.StatusOK {
		t.Errorf("after SIGTERM: got %d for a profile, want 200", got)
	}
	node.Process.Signal(syscall.SIGTERM) // ends it immediately
	node.Wait()
}
