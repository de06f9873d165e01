package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

const (
	// pollTime is the interval between two reads of the certificate files. A read of both takes
	// 0.06 ms (BenchmarkCertificate).
	pollTime = 2 * time.Second
	// settleTime is how long the certificate files must be invalid until that is logged. A renewal
	// writes one file after the other, so the pair does not match in between.
	settleTime = 10 * time.Second
	// soonTime is the remaining time of a certificate below which the log has a warning per day.
	// For a lifetime below 21 days, it is a third of the lifetime, because such certificates are
	// renewed late.
	soonTime = 7 * 24 * time.Hour
)

// reloader replaces the certificate and the keys of a running server. Open connections and streams
// are not affected. Its goroutine reads
//
//   - the certificate files every pollTime, and on SIGHUP. A new pair that a poll finds is used when
//     the next poll finds the same;
//   - the files with secrets and public keys on SIGHUP only, because they have no counterpart by
//     which a half-written change could be detected.
//
// An invalid file leaves everything that was read before in use.
type reloader struct {
	log  *slog.Logger
	keys *serverKeys
	cert *serverCertificate // nil for plain HTTP

	stop context.CancelFunc
	done chan struct{} // closed when the goroutine has ended

	// Only the goroutine uses these fields.
	failing time.Time // since when the certificate files are invalid; zero if they are valid
	failure string    // the error that was logged since then
	warned  time.Time // when the expiry of the current certificate was logged

	mu     sync.Mutex // guards the fields below
	status reloadStatus
	keysOK bool
	certOK bool
	hangs  bool // a reload takes longer than hangTime
}

// reloadStatus is the result of the last reload, for metrics.
type reloadStatus struct {
	notBefore, notAfter time.Time // validity of the current certificate; zero for plain HTTP

	ok      bool      // the last reload of the keys and that of the certificate succeeded, and none hangs; true after the start
	success time.Time // time of the last reload after which ok was true, or of the start
}

// newReloader returns a reloader for keys and cert as they were read just now.
func newReloader(log *slog.Logger, keys *serverKeys, cert *serverCertificate) *reloader {
	return &reloader{log: log, keys: keys, cert: cert, done: make(chan struct{}), keysOK: true, certOK: true,
		status: reloadStatus{success: time.Now()}}
}

// catchHangup returns a channel that receives SIGHUP. Without it, the signal ends the process. A
// signal during a reload, or before the first one, causes one more.
func catchHangup() chan os.Signal {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	return hangup
}

// startReloading starts a reloader for the signals of catchHangup. The caller must close it.
func startReloading(log *slog.Logger, keys *serverKeys, cert *serverCertificate, hangup <-chan os.Signal) *reloader {
	r := newReloader(log, keys, cert)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go r.run(ctx, hangup) // ends with close
	return r
}

// closeTime is how long close waits for a reload. A read can hang on a network file system.
const closeTime = time.Second

// close ends the goroutine of startReloading.
func (r *reloader) close() {
	r.stop()
	select {
	case <-r.done:
	case <-time.After(closeTime):
		r.log.Warn("reload not complete at the end: a file does not answer")
	}
}

// run reloads until ctx is done.
func (r *reloader) run(ctx context.Context, hangup <-chan os.Signal) {
	defer close(r.done)
	var poll <-chan time.Time // nil for plain HTTP, and for files that cannot be read again
	if r.cert != nil {
		r.warnExpiry(time.Now())
	}
	if r.cert != nil && r.cert.canReload() {
		ticker := time.NewTicker(pollTime)
		defer ticker.Stop()
		poll = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			r.watch(func() {
				r.reloadKeys()
				if r.cert != nil {
					r.failure = "" // the operator expects a line
					r.reloadCertificate(time.Now(), true)
				}
			})
			r.succeed()
		case <-poll:
			reloaded := false
			r.watch(func() { reloaded = r.reloadCertificate(time.Now(), false) })
			if reloaded {
				r.succeed()
			}
			r.warnExpiry(time.Now())
		}
	}
}

// hangTime is the time after which a reload has a line, because a read of its files hangs, as on a
// network file system. No other reload begins until this read ends.
const hangTime = 10 * time.Second

// watch runs a reload, and reports if it hangs.
func (r *reloader) watch(reload func()) {
	ended := false // guarded by r.mu
	timer := time.AfterFunc(hangTime, func() {
		r.mu.Lock()
		r.hangs = !ended
		hangs := r.hangs
		r.mu.Unlock()
		if hangs {
			r.log.Error("reload not complete: a file does not answer", "time", hangTime)
		}
	})
	defer timer.Stop()
	reload()
	r.mu.Lock()
	defer r.mu.Unlock()
	ended, r.hangs = true, false
}

// reloadKeys reads the files with secrets and public keys, and requests a fetch of the JWK Set.
func (r *reloader) reloadKeys() {
	err := r.keys.reload()
	r.record(&r.keysOK, err == nil)
	if err != nil {
		r.log.Error("keys not reloaded: previous keys in use", "err", err)
		return
	}
	r.log.Info("keys reloaded", "files", r.keys.files(), "fingerprint", r.keys.jwt.Fingerprint())
}

// reloadCertificate reads the certificate files. asked reports that the operator asked for it. The
// result reports a success that has a line, and not only a check without a change.
func (r *reloader) reloadCertificate(now time.Time, asked bool) (reloaded bool) {
	replaced, err := r.cert.reload(asked)
	if err != nil {
		if r.failing.IsZero() {
			r.failing, r.failure = now, ""
		}
		if (asked || now.Sub(r.failing) >= settleTime) && r.failure != err.Error() {
			r.failure = err.Error()
			r.record(&r.certOK, false)
			r.log.Error("certificate not reloaded: previous certificate in use", "files", r.files(), "err", denied(err))
		}
		return false
	}
	if r.cert.next != nil { // the next poll decides
		return false
	}
	reloaded = replaced || asked || r.failure != ""
	r.failing, r.failure = time.Time{}, ""
	r.record(&r.certOK, true)
	if replaced {
		r.warned = time.Time{}
	}
	if reloaded {
		leaf := r.cert.current.Load().Leaf
		r.log.Info("certificate reloaded", "files", r.files(), "changed", replaced, "subject", leaf.Subject.String(), "names", leaf.DNSNames,
			"serial", leaf.SerialNumber.Text(16), "not_after", leaf.NotAfter)
	}
	return reloaded
}

func (r *reloader) files() []string { return []string{r.cert.certFile, r.cert.keyFile} }

// warnExpiry logs a warning once per day if the current certificate expires soon.
func (r *reloader) warnExpiry(now time.Time) {
	leaf := r.cert.current.Load().Leaf
	left := leaf.NotAfter.Sub(now)
	if left > min(soonTime, leaf.NotAfter.Sub(leaf.NotBefore)/3) || !r.warned.IsZero() && now.Sub(r.warned) < 24*time.Hour {
		return
	}
	r.warned = now
	text := "certificate expires soon"
	if left <= 0 {
		text = "certificate expired: clients reject it"
	}
	r.log.Warn(text, "files", r.files(), "subject", leaf.Subject.String(), "not_after", leaf.NotAfter, "left", left.Round(time.Second))
}

// record stores the result of a reload in ok, which is keysOK or certOK.
func (r *reloader) record(ok *bool, success bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*ok = success
}

// succeed stores the time of a reload, unless a part of it failed.
func (r *reloader) succeed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keysOK && r.certOK {
		r.status.success = time.Now()
	}
}

// state returns the result of the last reload. It is safe for concurrent use.
func (r *reloader) state() reloadStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.ok = r.keysOK && r.certOK && !r.hangs
	if r.cert != nil {
		leaf := r.cert.current.Load().Leaf
		s.notBefore, s.notAfter = leaf.NotBefore, leaf.NotAfter
	}
	return s
}
