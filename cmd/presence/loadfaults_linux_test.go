//go:build !race

package main

// The tests in this file run one server under load, and then one fault of its machine or of its
// operator. The clients are served or refused, never wrong, and afterwards the server is as before.
// The full sizes need PRESENCE_TEST_LONG=1 (make test-long).

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.com/presence/cmd/presence/internal/ledger"
)

// faultTime is the duration of a fault.
func faultTime() time.Duration {
	return sized(500*time.Millisecond, 500*time.Millisecond, 20*time.Second)
}

// Out of file descriptors, the server goes on serving its clients. New clients wait, and are served
// when descriptors are free.
func TestFaultLoadDescriptors(t *testing.T) {
	t.Parallel()
	heavy(t)
	l := startLoaded(t, nil, nil)
	l.calm("before")
	var old unix.Rlimit
	if err := unix.Prlimit(l.process.Process.Pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		t.Fatal(err)
	}
	limit := func(n uint64) {
		t.Helper()
		if err := unix.Prlimit(l.process.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: old.Max}, nil); err != nil {
			t.Fatal(err)
		}
	}
	fault := l.phase("no free descriptors", faultTime(), func() {
		limit(uint64(l.metrics()["process_open_fds"]) + 5)
		l.join(sized(20, 40, 200), "new")
		eventually(t, patience, "the log has a line about open files", func() bool { return strings.Contains(l.log.String(), "too many open files") })
	})
	if got := fault.grown("presence_accept_failures_total"); got < 1 {
		t.Errorf("presence_accept_failures_total has grown by %v, want at least 1", got)
	}
	t.Logf("%v failures to accept, %v streams refused", fault.grown("presence_accept_failures_total"), fault.grown(`presence_refusals_total{reason="open_files"}`))
	l.moving()
	limit(old.Cur)
	raised := time.Now()
	eventually(t, patience, "all clients are connected", l.allOpen)
	took := time.Since(raised)
	t.Logf("all clients are connected %v after the limit was raised", took)
	if took > 3*time.Second { // the server accepts again within 1 s
		t.Errorf("all clients are connected after %v, want at most 3 s", took)
	}
	l.exact("limit raised")
	l.finish()
}

// If the disk with the log is full, clients do not notice it. The lost lines are counted, and
// logged when there is space again.
func TestFaultLoadLogDiskFull(t *testing.T) {
	t.Parallel()
	heavy(t)
	const lost, lostMetric = "log lines lost: they could not be written", "presence_log_write_failures_total"
	disk := newFullDisk(t)
	file := disk.create("log")
	l := startLoaded(t, nil, file, "--log-level=debug")
	if got := l.calm("before").grown(lostMetric); got != 0 {
		t.Errorf("%s has grown by %v before the fault, want 0", lostMetric, got)
	}
	fault := l.phase("disk full", faultTime(), func() {
		disk.fill()
		eventually(t, patience, lostMetric+" grows", func() bool { return l.metrics()[lostMetric] > 0 })
	})
	if got := fault.grown(lostMetric); got < 1 {
		t.Errorf("%s has grown by %v, want at least 1", lostMetric, got)
	}
	disk.free()
	line := ""
	eventually(t, patience, "the log has a line about the lost lines", func() bool { line = lineOf(file, lost); return line != "" })
	var report struct{ Count float64 }
	if err := json.Unmarshal([]byte(line), &report); err != nil {
		t.Errorf("got the line %q: %v", line, err)
	}
	if got := l.metrics()[lostMetric]; report.Count != got {
		t.Errorf("the log reports %v lost lines, want %v as in %s", report.Count, got, lostMetric)
	}
	t.Logf("%v lost lines", report.Count)
	l.finish()
}

// fullDisk is a small file system in memory, which no other process sees. It ends with the test.
type fullDisk struct {
	t      *testing.T
	root   int // descriptor of its root
	filler *os.File
}

func newFullDisk(t *testing.T) *fullDisk {
	t.Helper()
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fs)
	if err := errors.Join(unix.FsconfigSetString(fs, "size", "64m"), unix.FsconfigCreate(fs)); err != nil {
		t.Fatal(err)
	}
	d := &fullDisk{t: t}
	if d.root, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(d.root) })
	d.filler = d.create("filler")
	return d
}

// create creates a file. All writes append to it.
func (d *fullDisk) create(name string) *os.File {
	d.t.Helper()
	fd, err := unix.Openat(d.root, name, unix.O_CREAT|unix.O_RDWR|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), name)
	d.t.Cleanup(func() { file.Close() })
	return file
}

// fill fills the disk.
func (d *fullDisk) fill() {
	d.t.Helper()
	for block := make([]byte, 1<<20); ; {
		if _, err := d.filler.Write(block); errors.Is(err, unix.ENOSPC) {
			return
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
}

// free empties the file of fill.
func (d *fullDisk) free() {
	d.t.Helper()
	if err := d.filler.Truncate(0); err != nil {
		d.t.Fatal(err)
	}
}

// With a GOMEMLIMIT just above the memory that the server needs, the collector runs often, and the
// server keeps to the limit. Clients do not notice it.
func TestFaultLoadMemoryLimit(t *testing.T) {
	t.Parallel()
	heavy(t)
	usual := startLoaded(t, nil, nil)
	need := usual.memory()
	usual.phase("no limit", faultTime(), func() {})
	usual.finish()
	usual.process.Process.Kill()

	limit := 1.02 * need
	tight := startLoaded(t, []string{fmt.Sprintf("GOMEMLIMIT=%.0f", limit)}, nil)
	fault := tight.phase("limit", faultTime(), func() {})
	got := managed(fault.after)
	t.Logf("needed %.1f MB, limit %.1f MB, got %.1f MB; collections: %v without a limit, %v with it",
		need/1e6, limit/1e6, got/1e6, usual.phases[0].grown("go_gc_duration_seconds_count"), fault.grown("go_gc_duration_seconds_count"))
	if got > 1.1*limit {
		t.Errorf("got %.1f MB of memory, want at most the limit of %.1f MB and a tenth", got/1e6, limit/1e6)
	}
	tight.finish()
}

// A server that loses one of its cores serves its clients all the same.
func TestFaultLoadOneCore(t *testing.T) {
	t.Parallel()
	heavy(t)
	l := startLoaded(t, nil, nil)
	l.calm("before")
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	// Each thread has its own set, and gives it to the threads that it starts.
	restrict := func(to *unix.CPUSet) {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", l.process.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, thread := range threads {
			id, _ := strconv.Atoi(thread.Name())
			if err := unix.SchedSetaffinity(id, to); err != nil && !errors.Is(err, unix.ESRCH) {
				t.Fatal(err)
			}
		}
	}
	l.phase("one core", faultTime(), func() { restrict(&one) })
	l.moving()
	l.exact("one core")
	restrict(&all)
	l.finish()
}

// A new certificate and a new secret affect no stream. New handshakes have the new certificate. The
// tokens of the old secret are accepted as long as both are configured.
func TestFaultLoadRotation(t *testing.T) {
	t.Parallel()
	heavy(t)
	const next = "the next secret of at least 32 bytes"
	dir := t.TempDir()
	certFile, keyFile := dir+"/cert.pem", dir+"/key.pem"
	certificate(t, certFile, keyFile)
	secrets := []string{write(t, dir, "secret", secret), write(t, dir, "secret-2", secret)}
	n := startVaried(t, []string{"PRESENCE_JWT_SECRET="}, nil, "--tls-cert="+certFile, "--tls-key="+keyFile,
		"--jwt-secret-file="+secrets[0], "--jwt-secret-file="+secrets[1], "--message-rate=0")
	reload := func() {
		t.Helper()
		reloaded := n.logged(`"keys reloaded"`)
		sendSignal(t, n.process, unix.SIGHUP)
		eventually(t, patience, "the keys are reloaded", reloaded)
	}

	// Each room has 100 clients and a ledger.
	var books []*book
	var posting []*posters
	clients := map[*book][]*bookClient{}
	for room := range sized(1, 1, 20) {
		b := newBook(t, fmt.Sprintf("room-%d", room))
		b.scheme = "https"
		for _, c := range []*http.Client{b.streams, b.posts} {
			c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		}
		clients[b] = b.clients(100, "c", n.addr)
		b.quiet("start", clients[b], time.Now(), patience)
		books = append(books, b)
	}
	for _, b := range books {
		posting = append(posting, b.post("m", 100/len(books), anyOf(n.addr)))
	}
	send := func(want int, secret string) {
		t.Helper()
		token := must(t, env{"PRESENCE_JWT_SECRET": secret}, "token", "--sub=alice", "--send=*")
		if resp := request(t, anyCertificate(t, false), "POST", "https://"+n.addr+"/messages?room=elsewhere", token, `{"data":1}`); resp.StatusCode != want {
			t.Errorf("token of the secret %q: got %s, want %d", secret, resp.Status, want)
		}
	}
	cpu, began := cpuTime(t, n.process), time.Now()
	send(http.StatusAccepted, secret)
	send(http.StatusUnauthorized, next)

	replace(t, secrets[1], next)
	reload()
	send(http.StatusAccepted, secret)
	send(http.StatusAccepted, next)
	for _, b := range books {
		b.use(next)
	}
	cert, key := pair(t, 2, time.Hour)
	replaced := n.logged(`"certificate reloaded"`)
	replace(t, certFile, cert)
	replace(t, keyFile, key)
	eventually(t, patience, "the certificate is reloaded", replaced)
	resp := request(t, anyCertificate(t, false), "GET", "https://"+n.addr+"/healthz", "", "")
	if got := resp.TLS.PeerCertificates[0].SerialNumber.Int64(); got != 2 {
		t.Errorf("got serial %d in a new handshake, want 2", got)
	}
	until(t, began.Add(faultTime()))
	for _, p := range posting { // their last requests may have tokens of the old secret
		p.end()
	}
	replace(t, secrets[0], next)
	reload()
	send(http.StatusUnauthorized, secret)
	send(http.StatusAccepted, next)
	for _, b := range books {
		posting = append(posting, b.post("n", 100/len(books), anyOf(n.addr)))
	}
	until(t, time.Now().Add(faultTime()/4))
	for _, p := range posting {
		p.end()
	}
	used, took := cpuTime(t, n.process)-cpu, time.Since(began)

	streams, received, accepted := 0, 0, 0
	for _, b := range books {
		clients[b] = append(clients[b], b.clients(10, "new", n.addr)...)
		b.quiet("new clients", clients[b], time.Now(), 3*time.Second)
		eventually(t, patience, "all messages have arrived", func() bool { return len(ledger.Check(b.list()).Faults) == 0 })
		r := b.check()
		if r.Opened != len(clients[b]) || r.Resets > 0 || r.Refused > 0 {
			t.Errorf("%d clients opened %d streams and got %d resets, and %d messages were refused, want one stream each, no reset and none refused", len(clients[b]), r.Opened, r.Resets, r.Refused)
		}
		streams, received, accepted = streams+r.Opened, received+r.Received, accepted+r.Accepted
	}
	if resp := request(t, anyCertificate(t, false), "GET", "https://"+n.addr+"/readyz", "", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("GET /readyz: got %s, want 200", resp.Status)
	}
	t.Logf("%d streams over TLS received %d events of %d messages in %.1f s, CPU %.0f %%, RSS %.0f MB", streams, received, accepted,
		took.Seconds(), 100*used.Seconds()/took.Seconds(), float64(residentSet(t, n.process))/1e6)
}
