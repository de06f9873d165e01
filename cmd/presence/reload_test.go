package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/auth"
)

// reloading is a reloader in a synctest bubble, with real files.
type reloading struct {
	*reloader
	t      *testing.T
	dir    string
	seen   int // bytes of the log that were checked
	hangup chan os.Signal

	mu  sync.Mutex // guards log
	log bytes.Buffer
}

// Write appends to the log.
func (r *reloading) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

// logged returns the log so far.
func (r *reloading) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// withReloader runs test with a reloader in a synctest bubble. The flags name the files cert, key,
// secret, secret-2 and public.pem in dir, which configure writes.
func withReloader(t *testing.T, configure func(r *reloading), test func(*testing.T, *reloading)) {
	synctest.Test(t, func(t *testing.T) {
		r := &reloading{t: t, dir: t.TempDir(), hangup: make(chan os.Signal, 1)}
		configure(r)
		log := slog.New(slog.NewTextHandler(r, nil))
		cert, err := listenFlags{TLSCert: r.dir + "/cert", TLSKey: r.dir + "/key"}.certificate()
		if err != nil {
			t.Fatal(err)
		}
		flags := keyFlags{JWTPublicKey: []string{r.dir + "/public.pem"}, Dev: true}
		flags.JWTSecretFile = []string{r.dir + "/secret", r.dir + "/secret-2"}
		keys, err := flags.open(t.Context(), log)
		if err != nil {
			t.Fatal(err)
		}
		r.reloader = newReloader(log, keys, cert)
		ctx, cancel := context.WithCancel(t.Context())
		go r.run(ctx, r.hangup) // ends with cancel
		test(t, r)
		cancel()
		<-r.done
	})
}

// renewed writes the files of a valid configuration, with a certificate of serial 1.
func (r *reloading) renewed() {
	cert, key := pair(r.t, 1, 90*24*time.Hour)
	for name, content := range map[string]string{"cert": cert, "key": key, "public.pem": cert, "secret": strings.Repeat("1", 32), "secret-2": strings.Repeat("1", 32)} {
		write(r.t, r.dir, name, content)
	}
}

// expect advances the clock by d, or waits for the reload of a SIGHUP if d is 0. It fails unless
// the new lines of the log contain these texts, one each.
func (r *reloading) expect(d time.Duration, want ...string) {
	r.t.Helper()
	if d == 0 {
		r.hangup <- syscall.SIGHUP
	}
	time.Sleep(d)
	synctest.Wait()
	log := r.logged()
	got := slices.Collect(strings.Lines(log[r.seen:]))
	r.seen = len(log)
	ok := len(got) == len(want)
	for i := 0; ok && i < len(got); i++ {
		ok = strings.Contains(got[i], want[i])
	}
	if !ok {
		r.t.Errorf("got log\n%s\nwant lines with %q", strings.Join(got, ""), want)
	}
}

// serves fails unless new handshakes receive the certificate with that serial, and the last reload
// succeeded or not.
func (r *reloading) serves(serial int64, ok bool) {
	r.t.Helper()
	cert, err := r.cert.config().GetCertificate(nil)
	if err != nil || cert.Leaf.SerialNumber.Int64() != serial {
		r.t.Errorf("got the certificate %v, %v; want serial %d", cert.Leaf.SerialNumber, err, serial)
	}
	if state := r.state(); state.ok != ok || state.notBefore != cert.Leaf.NotBefore || state.notAfter != cert.Leaf.NotAfter {
		r.t.Errorf("got state %+v, want ok %v and the validity %v to %v", state, ok, cert.Leaf.NotBefore, cert.Leaf.NotAfter)
	}
}

// A certificate is replaced when its files change, however they change. While the pair does not
// match or a file is missing, the previous one stays in use, and the log has one error if that
// lasts.
func TestCertificateReload(t *testing.T) {
	withReloader(t, (*reloading).renewed, func(t *testing.T, r *reloading) {
		begin := time.Now()
		r.expect(time.Minute)
		r.serves(1, true)
		if got := r.state().success; got != begin {
			t.Errorf("got the last success at %v, want the start %v", got, begin)
		}

		// One file is written after the other.
		cert, key := pair(t, 0x2a, 90*24*time.Hour)
		write(t, r.dir, "cert", cert)
		r.expect(2 * pollTime)
		r.serves(1, true)
		write(t, r.dir, "key", key)
		r.expect(pollTime)
		r.serves(1, true)
		r.expect(pollTime, `level=INFO msg="certificate reloaded" files="[`+r.dir+`/cert `+r.dir+`/key]" changed=true subject="" names=[presence.example] serial=2a not_after=2000-03-31T`)
		r.serves(0x2a, true)
		if got := r.state().success; got.Before(begin.Add(time.Minute)) {
			t.Errorf("got the last success at %v, want the time of the reload", got)
		}

		// The files have the same size and modification time as before.
		stat := func(name string) os.FileInfo {
			info, err := os.Stat(filepath.Join(r.dir, name))
			if err != nil {
				t.Fatal(err)
			}
			return info
		}
		before := stat("key")
		cert, key = pair(t, 3, 90*24*time.Hour)
		write(t, r.dir, "cert", cert)
		write(t, r.dir, "key", key)
		if err := os.Chtimes(filepath.Join(r.dir, "key"), before.ModTime(), before.ModTime()); err != nil || stat("key").Size() != before.Size() {
			t.Fatalf("got size %d, %v; want %d", stat("key").Size(), err, before.Size())
		}
		r.expect(2*pollTime, "serial=3 ")
		r.serves(3, true)

		// An invalid file is reported once, and its repair too.
		write(t, r.dir, "cert", "")
		r.expect(settleTime)
		r.serves(3, true)
		r.expect(2*pollTime, `level=ERROR msg="certificate not reloaded: previous certificate in use" files="[`+r.dir+`/cert `+r.dir+`/key]" err="tls: `)
		r.serves(3, false)
		r.expect(5 * time.Minute)
		os.Remove(filepath.Join(r.dir, "cert"))
		r.expect(5*time.Minute, `err="open `+r.dir+`/cert: no such file or directory"`)
		r.expect(0, "keys reloaded", "certificate not reloaded")
		r.expect(5 * time.Minute)
		write(t, r.dir, "cert", cert)
		r.expect(5*time.Minute, "changed=false")
		r.serves(3, true)

		// SIGHUP is always answered, and uses a pair at once. One that does not match is retried.
		r.expect(0, "keys reloaded", "changed=false")
		cert, key = pair(t, 4, 90*24*time.Hour)
		write(t, r.dir, "key", key)
		success := r.state().success
		time.Sleep(time.Second)
		r.expect(0, "keys reloaded", "certificate not reloaded")
		r.serves(3, false)
		if got := r.state().success; got != success {
			t.Errorf("got the last success at %v, want %v: the certificate was not reloaded", got, success)
		}
		write(t, r.dir, "cert", cert)
		r.expect(2*pollTime, "changed=true")
		r.serves(4, true)
		cert, key = pair(t, 5, 90*24*time.Hour)
		write(t, r.dir, "cert", cert)
		write(t, r.dir, "key", key)
		r.expect(0, "keys reloaded", "serial=5 ")
		r.serves(5, true)

		// A program writes a chain: its first part is valid, and is not used.
		part, key := pair(t, 6, 90*24*time.Hour)
		rest, _ := pair(t, 7, 90*24*time.Hour)
		write(t, r.dir, "key", key)
		write(t, r.dir, "cert", part+rest[:100])
		r.expect(pollTime)
		r.serves(5, true)
		write(t, r.dir, "cert", part+rest)
		r.expect(pollTime)
		r.serves(5, true)
		r.expect(pollTime, "serial=6 ")
		if chain := r.cert.current.Load().Certificate; len(chain) != 2 {
			t.Errorf("got a chain of %d certificates, want 2", len(chain))
		}
	})
}

// In a Kubernetes volume, the files are symbolic links through a directory that is swapped.
func TestCertificateBehindSymbolicLinks(t *testing.T) {
	version := func(r *reloading, name string, serial int64) {
		cert, key := pair(r.t, serial, 90*24*time.Hour)
		if err := os.Mkdir(filepath.Join(r.dir, name), 0o700); err != nil {
			r.t.Fatal(err)
		}
		write(r.t, filepath.Join(r.dir, name), "cert", cert)
		write(r.t, filepath.Join(r.dir, name), "key", key)
	}
	link := func(r *reloading, to, name string) {
		if err := os.Symlink(to, filepath.Join(r.dir, name)); err != nil {
			r.t.Fatal(err)
		}
	}
	withReloader(t, func(r *reloading) {
		r.renewed()
		os.Remove(filepath.Join(r.dir, "cert"))
		os.Remove(filepath.Join(r.dir, "key"))
		version(r, "..1", 1)
		link(r, "..1", "..data")
		link(r, "..data/cert", "cert")
		link(r, "..data/key", "key")
	}, func(t *testing.T, r *reloading) {
		r.serves(1, true)
		version(r, "..2", 2)
		link(r, "..2", "..data_tmp")
		if err := os.Rename(filepath.Join(r.dir, "..data_tmp"), filepath.Join(r.dir, "..data")); err != nil {
			t.Fatal(err)
		}
		os.RemoveAll(filepath.Join(r.dir, "..1"))
		r.expect(2*pollTime, "serial=2 ")
		r.serves(2, true)
	})
}

// In its last week, or in the last third of a shorter lifetime, a certificate has one warning per
// day.
func TestCertificateExpiry(t *testing.T) {
	const day = 24 * time.Hour
	dir := t.TempDir()
	for _, tt := range []struct {
		left, step time.Duration
		want       string
	}{
		{90 * day, day, "expires soon left=168h0m0s, expires soon left=144h0m0s, expires soon left=120h0m0s, expires soon left=96h0m0s, " +
			"expires soon left=72h0m0s, expires soon left=48h0m0s, expires soon left=24h0m0s, expired: clients reject it left=0s, expired: clients reject it left=-24h0m0s"},
		{6*day - time.Hour, 12 * time.Hour, "expires soon left=47h0m0s, expires soon left=23h0m0s, expired: clients reject it left=-1h0m0s, expired: clients reject it left=-25h0m0s"},
		{-time.Minute, time.Hour, "expired: clients reject it left=-1m0s, expired: clients reject it left=-24h1m0s"},
	} {
		synctest.Test(t, func(t *testing.T) {
			cert, key := pair(t, 1, tt.left)
			write(t, dir, "cert", cert)
			write(t, dir, "key", key)
			c, err := listenFlags{TLSCert: dir + "/cert", TLSKey: dir + "/key"}.certificate()
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			r := newReloader(slog.New(slog.NewTextHandler(&log, nil)), nil, c)
			for now := time.Now(); now.Before(time.Now().Add(max(tt.left, 0) + 36*time.Hour)); now = now.Add(tt.step) {
				r.warnExpiry(now)
			}
			var got []string
			for line := range strings.Lines(log.String()) {
				_, text, _ := strings.Cut(line, `level=WARN msg="certificate `)
				text, rest, _ := strings.Cut(text, `"`)
				_, left, _ := strings.Cut(rest, " left=")
				got = append(got, text+" left="+strings.TrimSpace(left))
			}
			if got := strings.Join(got, ", "); got != tt.want {
				t.Errorf("%v: got\n%s\nwant\n%s", tt.left, got, tt.want)
			}
		})
	}

	// The warning comes at the start, and again for another certificate that expires soon.
	withReloader(t, func(r *reloading) {
		r.renewed()
		cert, key := pair(r.t, 1, time.Minute)
		write(r.t, r.dir, "cert", cert)
		write(r.t, r.dir, "key", key)
	}, func(t *testing.T, r *reloading) {
		r.expect(pollTime, `level=WARN msg="certificate expires soon" files="[`+r.dir+`/cert `+r.dir+`/key]" subject="" not_after=2000-01-01T00:01:00.000Z left=1m0s`)
		cert, key := pair(t, 2, 2*time.Minute)
		write(t, r.dir, "cert", cert)
		write(t, r.dir, "key", key)
		r.expect(time.Minute, "certificate reloaded", "certificate expires soon")
	})
}

// SIGHUP replaces all keys at once. If one file is invalid, all previous keys stay in use.
func TestKeysReload(t *testing.T) {
	withReloader(t, (*reloading).renewed, func(t *testing.T, r *reloading) {
		accepts := func(want string) {
			t.Helper()
			got := ""
			for _, digit := range []string{"1", "2", "3"} {
				token, err := auth.Mint([]byte(strings.Repeat(digit, 32)), auth.Claims{Sub: "alice"})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := r.keys.jwt.Authenticate(&http.Request{Header: http.Header{"Authorization": {"Bearer " + token}}}); err == nil {
					got += digit
				}
			}
			if got != want {
				t.Errorf("got tokens of the secrets %q accepted, want %q", got, want)
			}
			if _, guest, err := r.keys.guest("Ann"); err != nil || guest.Name != "Ann" {
				t.Errorf("got guest %+v, %v", guest, err)
			}
		}
		accepts("1")
		write(t, r.dir, "secret-2", strings.Repeat("2", 32)+"\n")
		r.expect(5 * time.Minute) // only SIGHUP reads these files
		accepts("1")
		r.expect(0, `level=INFO msg="keys reloaded" files="[`+r.dir+`/secret `+r.dir+`/secret-2 `+r.dir+`/public.pem]" fingerprint=`+r.keys.jwt.Fingerprint()[:4], "changed=false")
		accepts("12")

		// The secret is valid, but the public key is not.
		public, err := os.ReadFile(filepath.Join(r.dir, "public.pem"))
		if err != nil {
			t.Fatal(err)
		}
		write(t, r.dir, "secret", strings.Repeat("3", 32))
		write(t, r.dir, "public.pem", "none")
		r.expect(0, `level=ERROR msg="keys not reloaded: previous keys in use" err="--jwt-public-key: `+r.dir+`/public.pem: auth: public key not in PEM format"`, "certificate reloaded")
		accepts("12")
		r.serves(1, false)
		write(t, r.dir, "public.pem", string(public))
		r.expect(0, "keys reloaded", "certificate reloaded")
		accepts("23")
		r.serves(1, true)
		if log := r.logged(); strings.Contains(log, strings.Repeat("3", 16)) {
			t.Errorf("the log has a secret:\n%s", log)
		}
	})
}

// A certificate has its parsed form although a setting of package tls, for old programs, omits it.
func TestCertificateWithoutLeaf(t *testing.T) {
	t.Setenv("GODEBUG", "x509keypairleaf=0")
	dir := t.TempDir()
	certificate(t, dir+"/cert", dir+"/key")
	c, err := listenFlags{TLSCert: dir + "/cert", TLSKey: dir + "/key"}.certificate()
	if err != nil {
		t.Fatal(err)
	}
	if leaf := c.current.Load().Leaf; leaf == nil || leaf.DNSNames[0] != "presence.example" {
		t.Errorf("got leaf %v, want that of presence.example", leaf)
	}
}

// A reload that hangs has one line, and counts as failed until it ends.
func TestReloadHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reloading{t: t}
		r.reloader = newReloader(slog.New(slog.NewTextHandler(r, nil)), nil, nil)
		release := make(chan struct{})
		go func() { // ends with release
			r.watch(func() { <-release })
		}()
		time.Sleep(hangTime - 1)
		synctest.Wait()
		if !r.state().ok || r.logged() != "" {
			t.Errorf("before %v: got ok %v, log %q; want true and no line", hangTime, r.state().ok, r.logged())
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := r.logged(); r.state().ok || strings.Count(got, "\n") != 1 || !strings.Contains(got, `level=ERROR msg="reload not complete: a file does not answer" time=10s`) {
			t.Errorf("after %v: got ok %v, log %s; want false and one line", hangTime, r.state().ok, got)
		}
		close(release)
		synctest.Wait()
		if !r.state().ok {
			t.Error("after its end: got ok false, want true")
		}
		r.watch(func() {})
		time.Sleep(2 * hangTime)
		synctest.Wait()
		if !r.state().ok || strings.Count(r.logged(), "\n") != 1 {
			t.Errorf("after a reload in time: got ok %v, log %s", r.state().ok, r.logged())
		}
	})
}

// A reload keeps the secret that --dev generates.
func TestReloadOfGeneratedSecret(t *testing.T) {
	keys, err := keyFlags{Dev: true}.open(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := keys.guest("Ann")
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.reload(); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.jwt.Authenticate(&http.Request{Header: http.Header{"Authorization": {"Bearer " + token}}}); err != nil {
		t.Errorf("token of a guest from before: %v", err)
	}
	if _, _, err := keys.guest("Bob"); err != nil {
		t.Errorf("guest after the reload: %v", err)
	}
}

// A reload fetches the JWK Set again, 5 s after the previous fetch, and keeps its keys until then.
func TestReloadOfJWKS(t *testing.T) {
	t.Parallel()
	fetches := make(chan struct{}, 10)
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`) // RFC 8037 appendix A.2
		fetches <- struct{}{}
	}))
	defer issuer.Close()
	keys, err := keyFlags{JWKSURL: issuer.URL}.open(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	<-fetches
	if err := keys.jwt.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := keys.reload(); err != nil {
		t.Fatal(err)
	}
	if err := keys.jwt.Ready(t.Context()); err != nil {
		t.Errorf("after the reload: %v", err)
	}
	select {
	case <-fetches:
	case <-time.After(patience):
		t.Error("the JWK Set was not fetched again")
	}
}

// BenchmarkCertificate measures a read of the certificate files that have not changed:
//
//	go test -run '^$' -bench BenchmarkCertificate ./cmd/presence
func BenchmarkCertificate(b *testing.B) {
	dir := b.TempDir()
	certificate(b, dir+"/cert", dir+"/key")
	c, err := listenFlags{TLSCert: dir + "/cert", TLSKey: dir + "/key"}.certificate()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if replaced, err := c.reload(false); replaced || err != nil {
			b.Fatal(replaced, err)
		}
	}
}
