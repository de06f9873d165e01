package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"
	"golang.org/x/net/netutil"

	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/metrics"
)

// measured holds the metrics of the command and of its server.
type measured struct {
	server  *metrics.Metrics
	handler http.Handler // serves all metrics
}

func newMeasured(log *slog.Logger, reloads *reloader, keys *auth.JWT, lines *logQueue) *measured {
	m := &measured{server: metrics.New()}
	r := prometheus.NewRegistry()
	r.MustRegister(
		m.server,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildInfo(),
		counter("log_write_failures_total", "Log lines that could not be written.", lines.lost.Load),
		gauge("config_last_reload_successful", "1 if the last reload of the keys and that of the certificate succeeded, else 0.",
			func() float64 { return oneIf(reloads.state().ok) }),
		gauge("config_last_reload_success_timestamp_seconds", "Time of the last reload after which the keys and the certificate were current, or of the start.",
			func() float64 { return unixTime(reloads.state().success) }),
	)
	if reloads.cert != nil {
		r.MustRegister(gauge("certificate_expiry_timestamp_seconds", "Time at which the certificate of --tls-cert expires.",
			func() float64 { return unixTime(reloads.state().notAfter) }),
			gauge("certificate_not_before_timestamp_seconds", "Time from which the certificate of --tls-cert is valid.",
				func() float64 { return unixTime(reloads.state().notBefore) }))
	}
	if keys.Status().HasJWKS {
		r.MustRegister(
			counter("jwks_fetch_failures_total", "Fetches of the JWK Set that failed.", func() uint64 { return keys.Status().JWKSFailures }),
			gauge("jwks_last_success_timestamp_seconds", "Time of the last successful fetch of the JWK Set. 0 before the first.",
				func() float64 { return unixTime(keys.Status().JWKSSuccess) }),
		)
	}
	m.handler = newScrapes(promhttp.HandlerFor(r, promhttp.HandlerOpts{
		ErrorLog:           &scrapeErrors{log: log},
		ErrorHandling:      promhttp.ContinueOnError, // respond with the metrics that could be collected
		DisableCompression: true,
	}))
	return m
}

// renderTime is the minimum time between two renderings of the metrics.
const renderTime = 50 * time.Millisecond

// scrapes serves the metrics. Clients that ask while others wait share the text of the next
// rendering, so that thousands of clients that read slowly hold only a few copies. The metrics are
// never older than the request.
type scrapes struct {
	render http.Handler

	rendering chan struct{} // full during a rendering, and the wait before it
	began     time.Time     // of the last rendering; guarded by rendering

	mu   sync.Mutex                    // guards next
	next map[expfmt.Format]*exposition // the renderings that have not begun
}

func newScrapes(render http.Handler) *scrapes {
	return &scrapes{render: render, rendering: make(chan struct{}, 1), next: map[expfmt.Format]*exposition{}}
}

// exposition is a response with the metrics in one format. It is an [http.ResponseWriter].
type exposition struct {
	done   chan struct{} // closed when it is complete
	header http.Header
	status int
	body   bytes.Buffer
}

func (e *exposition) Header() http.Header            { return e.header }
func (e *exposition) WriteHeader(status int)         { e.status = status }
func (e *exposition) Write(text []byte) (int, error) { return e.body.Write(text) }

// ServeHTTP implements [http.Handler].
func (s *scrapes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	found := s.get(r)
	maps.Copy(w.Header(), found.header)
	w.Header().Set("Content-Length", strconv.Itoa(found.body.Len()))
	w.WriteHeader(found.status)
	w.Write(found.body.Bytes())
}

// get returns the metrics in the format that the client prefers.
func (s *scrapes) get(r *http.Request) *exposition {
	format := expfmt.NegotiateAccept(r.Header, expfmt.DefaultAcceptedFormats()...) // one of a few
	s.mu.Lock()
	e := s.next[format]
	if e != nil {
		s.mu.Unlock()
		<-e.done
		return e
	}
	e = &exposition{done: make(chan struct{}), header: http.Header{}, status: http.StatusOK}
	s.next[format] = e
	s.mu.Unlock()
	defer close(e.done)

	s.rendering <- struct{}{}
	defer func() { <-s.rendering }()
	time.Sleep(renderTime - time.Since(s.began))
	s.began = time.Now()
	s.mu.Lock()
	delete(s.next, format)
	s.mu.Unlock()
	s.render.ServeHTTP(e, r)
	return e
}

// scrapeErrors logs the errors of scrapes, at most one per minute, because any client can cause
// them. A client that disconnects causes one for each metric that was not sent: these have no line.
type scrapeErrors struct {
	log  *slog.Logger
	last atomic.Int64 // Unix nanoseconds of the last line; 0: none
}

// Println implements [promhttp.Logger].
func (s *scrapeErrors) Println(v ...any) {
	text := strings.TrimSpace(fmt.Sprintln(v...))
	if strings.HasPrefix(text, "error encoding and sending") {
		return
	}
	now, last := time.Now().UnixNano(), s.last.Load()
	if (last == 0 || now-last >= int64(time.Minute)) && s.last.CompareAndSwap(last, now) {
		s.log.Warn("metrics incomplete", "err", text)
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// buildInfo returns the metric with the versions of the command and of Go.
func buildInfo() prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "presence_build_info", Help: "Always 1. The labels are the versions of presence and of Go.",
		ConstLabels: prometheus.Labels{"version": buildVersion(), "goversion": runtime.Version()},
	})
	g.Set(1)
	return g
}

// gauge returns a metric whose value is read when it is collected.
func gauge(name, help string, value func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "presence", Name: name, Help: help}, value)
}

// counter is like gauge, for a total since the start of the process.
func counter(name, help string, value func() uint64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "presence", Name: name, Help: help}, func() float64 { return float64(value()) })
}

// unixTime returns a time in seconds since the epoch, or 0 for the zero time.
func unixTime(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / float64(time.Second)
}

const (
	// maxScrapers is the maximum number of connections of the metrics listener. More have to wait.
	maxScrapers = 32
	// scraperIdle is the time after which an idle connection of the metrics listener is closed. It
	// is short, because idle connections count toward maxScrapers. Prometheus opens another one.
	scraperIdle = 10 * time.Second
	// scrapeTime is the maximum time to send a response to a client.
	scrapeTime = 30 * time.Second
)

// metricsServer serves the metrics and the profiles of the process on a listener of its own.
type metricsServer struct {
	http *http.Server
	done chan struct{} // closed when Serve has returned
}

// checkMetricsListen returns a usage error unless addr is empty or [host]:port.
func checkMetricsListen(addr string) error {
	if addr == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return usagef("--metrics-listen: %q is not [host]:port with a port from 0 to 65535", addr)
	}
	return nil
}

// serveMetrics starts a metricsServer. The profiles are only here, because they reveal the names of
// users and rooms in memory, and take CPU.
func serveMetrics(ctx context.Context, addr string, metrics http.Handler, log *slog.Logger) (*metricsServer, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("--metrics-listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	// Without cmdline, which can contain a secret, and symbol, whose response has no limit.
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	s := &metricsServer{
		http: &http.Server{
			Handler:           withDeadline(mux),
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       10 * time.Second,
			IdleTimeout:       scraperIdle,
			MaxHeaderBytes:    16 << 10,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
		done: make(chan struct{}),
	}
	log.Info("metrics listening", "addr", l.Addr().String())
	go func() { // ends with close
		defer close(s.done)
		if err := s.http.Serve(netutil.LimitListener(l, maxScrapers)); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics no longer served", "err", err) // the public listener goes on
		}
	}()
	return s, nil
}

// withDeadline limits the time of each response to scrapeTime, after the seconds that the client
// asks for: a profile begins at their end. It also makes browsers use the Content-Type.
func withDeadline(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seconds, err := strconv.ParseFloat(r.URL.Query().Get("seconds"), 64)
		if err != nil || !(seconds >= 0 && seconds <= 3600) {
			seconds = 30 // the default of a profile
		}
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Duration(seconds*float64(time.Second)) + scrapeTime))
		w.Header().Set("X-Content-Type-Options", "nosniff")
		h.ServeHTTP(w, r)
	})
}

// close ends the server and its connections.
func (s *metricsServer) close() {
	s.http.Close()
	<-s.done
}
