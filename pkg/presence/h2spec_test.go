package presence_test

import (
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	h2spec "github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"

	"example.com/presence/pkg/presence"
)

// conformanceCases returns the cases of h2spec by their numbers, including the strict ones.
func conformanceCases() map[string]*spec.TestCase {
	cases := map[string]*spec.TestCase{}
	var add func(*spec.TestGroup)
	add = func(g *spec.TestGroup) {
		for i, c := range append(g.Tests, g.StrictTests...) {
			cases[g.ID()+"/"+strconv.Itoa(i+1)] = c
		}
		for _, sub := range g.Groups {
			add(sub)
		}
	}
	add(generic.Spec())
	add(h2spec.Spec())
	add(hpack.Spec())
	return cases
}

// deviations are cases that net/http of Go 1.26 fails. They do not run again.
var deviations = map[string]bool{"http2/3.5/2": true, "http2/4.2/3": true, "http2/6.5.3/1": true, "http2/8.1.2.2/1": true, "http2/8.1.2.2/2": true}

// conforms runs all cases of h2spec against a server, many at a time because most of them wait. A
// case that fails runs again alone, with more time. conforms returns the errors of the cases that
// fail.
func conforms(t *testing.T, addr, path string, secure bool) map[string]error {
	t.Helper()
	host, digits, _ := net.SplitHostPort(addr)
	port, err := strconv.Atoi(digits)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex // guards failed
	failed := map[string]error{}
	var running sync.WaitGroup
	slots := make(chan struct{}, 32)
	cases := conformanceCases()
	run := func(name string, timeout time.Duration) {
		c := &config.Config{Host: host, Port: port, Path: path, Timeout: timeout, MaxHeaderLen: 4000, TLS: secure, Insecure: true, Strict: true}
		conn, err := spec.Dial(c)
		if err == nil {
			err = cases[name].Run(c, conn)
			conn.Close()
		}
		mu.Lock()
		defer mu.Unlock()
		if delete(failed, name); err != nil && !errors.Is(err, spec.ErrSkipped) {
			failed[name] = err
		}
	}
	for name := range cases {
		running.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			run(name, time.Second)
		})
	}
	running.Wait()
	for _, name := range slices.Collect(maps.Keys(failed)) {
		if !deviations[name] { // the machine may have been busy
			run(name, 10*time.Second)
		}
	}
	return failed
}

// The server conforms to RFC 9113 and RFC 7541 wherever net/http does, over TLS and without: the
// limits of Harden break no case of h2spec.
func TestHTTP2Conformance(t *testing.T) {
	t.Parallel()
	if n := len(conformanceCases()); n < 140 {
		t.Fatalf("got %d cases, want at least 140", n)
	}
	for name, secure := range map[string]bool{"TLS": true, "h2c": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			change := func(s *httptest.Server) {
				if !secure {
					h2c(s)
				}
			}
			bare := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				io.WriteString(w, `{"status":"alive"}`)
			}))
			bare.EnableHTTP2 = secure
			bare.Config.ErrorLog = log.New(io.Discard, "", 0)
			change(bare)
			if secure {
				bare.StartTLS()
			} else {
				bare.Start()
			}
			defer bare.Close()
			_, addr := hardenedBy(t, presence.Config{}, true, secure, change)
			known := conforms(t, bare.Listener.Addr().String(), "/", secure)
			failed := conforms(t, addr, "/presence/healthz", secure)
			var names []string
			for name := range known {
				names = append(names, name)
			}
			slices.Sort(names)
			t.Logf("cases that net/http fails: %v", names)
			for name, err := range failed {
				if known[name] == nil {
					t.Errorf("%s: %v\nnet/http passes this case", name, err)
				}
			}
		})
	}
}
