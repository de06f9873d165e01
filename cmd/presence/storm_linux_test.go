package main

// This file contains the benchmark that measures the memory of the command after a join burst. Run
// it from the root of the repository:
//
//	make bench BENCH=StormMemory               # 12,000 clients, one minute
//	make bench BENCH=StormMemory ARGS=-short   # a tenth of the clients, as a smoke test
//
// It needs 20,000 open files per process (ulimit -n). The server runs in a separate process with
// the default settings. The clients run in this process and connect over loopback. The benchmark
// reads the resident set of the server (/proc/PID/statm), which excludes the kernel's memory for
// sockets.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"example.com/presence/pkg/presence/auth"
)

// On SIGUSR1, a test process that runs the presence command returns its free memory to the system
// and logs freedLine.
func init() {
	if os.Getenv(asCommand) == "" {
		return
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	go func() { // ends when the process exits
		for range asked {
			debug.FreeOSMemory()
			debug.FreeOSMemory() // a sync.Pool keeps its items for one more collection
			fmt.Fprintln(os.Stderr, freedLine)
		}
	}()
}

const freedLine = "free memory returned to the system"

// stormServer is a server whose memory the benchmark measures, with its clients.
type stormServer struct {
	b       *testing.B
	process *exec.Cmd
	log     *lines
	addr    string
	conns   []net.Conn

	waiting atomic.Int64 // clients that have sent their request but not received a count
	most    atomic.Int64 // maximum of waiting
	retried atomic.Int64 // connections that were closed before their first count
}

func startStormServer(b *testing.B) *stormServer {
	b.Helper()
	s := &stormServer{b: b}
	s.process, s.log, s.addr = serveProcess(b)
	return s
}

// join opens one client per request and returns when each client has received its first count. At
// most inFlight clients wait for the count at the same time.
func (s *stormServer) join(requests []string, inFlight int) {
	s.b.Helper()
	ctx, cancel := context.WithTimeout(s.b.Context(), 2*time.Minute)
	defer cancel()
	var joining sync.WaitGroup
	slots := make(chan struct{}, inFlight)
	s.conns = make([]net.Conn, len(requests))
	errs := make([]error, len(requests))
	for i := range requests {
		slots <- struct{}{}
		joining.Go(func() { // ends with ctx
			s.conns[i], errs[i] = s.open(ctx, requests[i])
			<-slots
		})
	}
	joining.Wait()
	if err := errors.Join(errs...); err != nil {
		s.b.Fatal(err)
	}
	for _, conn := range s.conns {
		go func() { // ends with the connection
			for b := make([]byte, 256); ; {
				if _, err := conn.Read(b); err != nil {
					return
				}
			}
		}()
	}
}

// open opens a stream and returns when the first count arrives. If the connection closes before, it
// retries like a browser.
func (s *stormServer) open(ctx context.Context, request string) (net.Conn, error) {
	now := s.waiting.Add(1)
	defer s.waiting.Add(-1)
	for most := s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
	}
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
		if err != nil {
			return nil, err
		}
		end, _ := ctx.Deadline()
		conn.SetReadDeadline(end)
		if _, err = conn.Write([]byte(request)); err == nil {
			err = readToCount(conn)
		}
		if err == nil {
			conn.SetReadDeadline(time.Time{})
			return conn, nil
		}
		conn.Close()
		if ctx.Err() != nil {
			return nil, err
		}
		s.retried.Add(1)
	}
}

// readToCount reads a response up to the first count.
func readToCount(conn net.Conn) error {
	const head, count = "HTTP/1.1 200 ", "event: user count\n"
	var answer []byte
	for b := make([]byte, 512); !bytes.Contains(answer, []byte(count)); {
		n, err := conn.Read(b)
		if err != nil {
			return err
		}
		answer = append(answer, b[:n]...)
	}
	if !bytes.HasPrefix(answer, []byte(head)) {
		return fmt.Errorf("got response %q", answer)
	}
	return nil
}

func (s *stormServer) signal(which os.Signal) {
	s.b.Helper()
	if err := s.process.Process.Signal(which); err != nil {
		s.b.Fatal(err)
	}
}

// free makes the server return its free memory to the system.
func (s *stormServer) free() {
	s.b.Helper()
	s.signal(syscall.SIGUSR1)
	s.log.find(s.b, freedLine)
}

// stat returns the resident set of the server in bytes, and its CPU time.
func (s *stormServer) stat() (rss int, cpu time.Duration) {
	s.b.Helper()
	return residentSet(s.b, s.process), cpuTime(s.b, s.process)
}

// end closes the clients before the server, so that for the next minute the kernel keeps the
// sockets of the clients and not those of the server.
func (s *stormServer) end() {
	for _, conn := range s.conns {
		conn.Close()
	}
	s.process.Process.Kill()
	s.process.Wait()
}

// BenchmarkStormMemory measures the memory of the command after 12,000 clients open streams
// concurrently. It compares this memory with the steady memory. To measure the steady memory, the
// same number of clients joins, 400 at a time, and the server returns its free memory to the
// system.
func BenchmarkStormMemory(b *testing.B) {
	clients := sized(1200, 12_000, 12_000)
	requests := make([]string, clients)
	for i := range requests {
		user := fmt.Sprintf("user-%d", i)
		token, err := auth.Mint([]byte(secret), auth.Claims{Sub: user, Name: user})
		if err != nil {
			b.Fatal(err)
		}
		requests[i] = "GET /events?room=lobby HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n" +
			"Authorization: Bearer " + token + "\r\n\r\n"
	}
	rows := []string{"after\tMB\tto steady\tbytes per connection\tCPU ms since"}

	calm := startStormServer(b)
	calm.free()
	empty, _ := calm.stat()
	calm.join(requests, 400)
	calm.free()
	steady, _ := calm.stat()
	calm.end()

	storm := startStormServer(b)
	began := time.Now()
	storm.join(requests, clients)
	over := time.Now()
	_, before := storm.stat()
	row := func(when string) float64 {
		rss, cpu := storm.stat()
		ratio := float64(rss) / float64(steady)
		rows = append(rows, fmt.Sprintf("%s\t%.1f\t%.2f\t%d\t%.0f", when, float64(rss)/1e6, ratio, (rss-empty)/clients, float64(cpu-before)/1e6))
		return ratio
	}
	for _, after := range []time.Duration{0, 1, 2, 5, 10, 30} {
		time.Sleep(time.Until(over.Add(after * time.Second)))
		ratio := row(fmt.Sprintf("%d s", after))
		if after == 0 || after == 10 {
			b.ReportMetric(ratio, fmt.Sprintf("RSS-%ds/steady", after))
		}
	}
	storm.free()
	row("all freed")
	storm.end()
	rows = append(rows, fmt.Sprintf("steady\t%.1f\t1.00\t%d\t", float64(steady)/1e6, (steady-empty)/clients))

	b.ReportMetric(0, "ns/op")
	fmt.Printf("\n\nMemory after a burst of %d joins in %.1f s (%d in flight at the same time, %d retried); %.1f MB without clients\n\n",
		clients, over.Sub(began).Seconds(), storm.most.Load(), storm.retried.Load(), float64(empty)/1e6)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "  "+strings.Join(rows, "\t\n  ")+"\t")
	w.Flush()
	fmt.Println()
}
