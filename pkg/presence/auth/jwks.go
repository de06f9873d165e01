package auth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"example.com/presence/pkg/presence/internal/redact"
)

const (
	pace    = 5 * time.Second  // minimum time before a fetch that a token causes
	retry   = 30 * time.Second // maximum time before the next fetch after a failure
	refresh = 5 * time.Minute  // maximum time before the next fetch after a success

	maxFetch = 5 * time.Second // timeout of a fetch
	maxSet   = 512 << 10       // maximum size of a response, in bytes
)

// setAlgorithms are the algorithms of the tokens that a JWK Set may verify.
var setAlgorithms = []string{"RS256", "PS256", "ES256", "EdDSA"}

// newKeySet returns the JWK Set at address. It starts the goroutine that fetches the set, which
// ends with ctx.
func newKeySet(ctx context.Context, address string, log *slog.Logger, transport http.RoundTripper) (*keySet, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("auth: invalid JWKS URL: must be an http or https URL")
	}
	public := (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String() // the rest may contain a password
	s := &keySet{
		url:     address,
		public:  public,
		initial: newFetched(nil, nil),
		log:     cmp.Or(log, slog.Default()).With("url", public),
		client: http.Client{
			Transport: transport,
			// Do not follow redirects. They could lead to a host that the operator did not
			// configure, and its keys must not be trusted, even over https.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	s.initial.status.HasJWKS = true
	s.last.Store(s.initial)
	go s.run(ctx) // ends with ctx
	return s, nil
}

// keySet is a remote JWK Set. Only the goroutine of run fetches it and stores last. All other
// goroutines only load last.
//
// It does not use MicahParks/keyfunc, because v3.9:
//
//   - returns the same error for an unknown kid and for a set that cannot be fetched;
//   - retries only after an hour if the first fetch fails and no kid is requested;
//   - drops a whole set because of one invalid key;
//   - reads a response of any length;
//   - does not check the strength of an RSA key.
type keySet struct {
	url     string
	public  string // url without password and query
	log     *slog.Logger
	client  http.Client
	initial *fetched // the state before the first fetch: no keys
	last    atomic.Pointer[fetched]
}

// fetched is the result of a fetch.
type fetched struct {
	keys    []jwkset.JWK  // the keys of the last successful fetch if this fetch failed
	err     error         // nil if the fetch succeeded
	status  Status        // after this fetch
	request chan struct{} // capacity 1; a value requests the next fetch
	next    chan struct{} // closed when a newer result is stored, or when run ends
}

func newFetched(keys []jwkset.JWK, err error) *fetched {
	return &fetched{keys: keys, err: err, request: make(chan struct{}, 1), next: make(chan struct{})}
}

// Status is the state of the JWK Set of a [JWT].
type Status struct {
	HasJWKS      bool      // false if the JWT has no JWK Set; the other fields are then zero
	JWKSFailures uint64    // number of failed fetches
	JWKSSuccess  time.Time // time of the last successful fetch; zero if there was none
}

func (s *keySet) run(ctx context.Context) {
	var warned time.Time // time of the last line about a failure
	for {
		old := s.last.Load()
		keys, err := s.fetch(ctx)
		wait := refresh
		if err != nil {
			keys, wait = old.keys, retry
		}
		fresh := newFetched(keys, err)
		fresh.status = Status{true, old.status.JWKSFailures, old.status.JWKSSuccess}
		if err == nil {
			fresh.status.JWKSSuccess = time.Now()
		} else {
			fresh.status.JWKSFailures++
		}
		ended := err != nil && ctx.Err() != nil
		switch { // first, because the tokens that this fetch rejects are logged too
		case ended:
		case err != nil && old.err != nil && err.Error() == old.err.Error() && time.Since(warned) < time.Minute:
			// Tokens with an unknown kid can cause a fetch every 5 s.
		case err != nil:
			warned = time.Now()
			s.log.Warn("JWK Set fetch failed", "err", err)
		case old.err != nil:
			s.log.Info("JWK Set fetch recovered")
		}
		s.last.Store(fresh)
		close(old.next)
		if ended {
			close(fresh.next)
			return
		}
		// When ctx is done, the next fetch fails immediately and wakes the waiting tokens.
		select {
		case <-time.After(pace):
		case <-ctx.Done():
		}
		select {
		case <-time.After(wait - pace):
		case <-fresh.request:
		case <-ctx.Done():
		}
	}
}

func (s *keySet) fetch(ctx context.Context) ([]jwkset.JWK, error) {
	ctx, cancel := context.WithTimeout(ctx, maxFetch)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if failed := new(url.Error); errors.As(err, &failed) {
		return nil, failed.Err // omits the URL, because its query may contain a secret
	} else if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("unexpected status %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxSet+1))
	if err != nil {
		return nil, err
	}
	var set struct{ Keys []json.RawMessage }
	if len(body) > maxSet || json.Unmarshal(body, &set) != nil || set.Keys == nil {
		return nil, fmt.Errorf("invalid response: not a JWK Set of at most %d bytes", maxSet)
	}
	// Decode the keys one by one, because a key that jwkset cannot decode must not invalidate the
	// whole set (RFC 7517 section 5).
	var keys []jwkset.JWK
	for _, raw := range set.Keys {
		key, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err == nil && verifies(key) {
			keys = append(keys, key)
		}
	}
	level := slog.LevelDebug
	if len(keys) == 0 {
		level = slog.LevelWarn // every token will be rejected
	}
	s.log.Log(ctx, level, "JWK Set fetched", "keys", len(keys), "ignored", len(set.Keys)-len(keys))
	return keys, nil
}

// verifies reports whether key may be used to verify signatures.
func verifies(key jwkset.JWK) bool {
	m := key.Marshal()
	return algorithmsFor(key.Key()) != nil && (m.USE == "" || m.USE == jwkset.UseSig) &&
		(len(m.KEYOPS) == 0 || slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify))
}

// find returns the keys for a token with that alg and kid. pending means that the last fetch did
// not return a key with that kid, so await may find one.
func (s *keySet) find(alg, kid string) (found []jwt.VerificationKey, pending bool) {
	last := s.last.Load()
	return last.find(alg, kid), !last.contains(kid)
}

// await is like find, but waits for the next fetch if the last one did not return a key with that
// kid. If that fetch fails, or ctx is done, its error wraps [ErrUnavailable].
func (s *keySet) await(ctx context.Context, alg, kid string) ([]jwt.VerificationKey, error) {
	last := s.last.Load()
	if !last.contains(kid) {
		last.fetchNext()
		select {
		case <-last.next:
		case <-ctx.Done():
			return nil, s.unavailable(ctx.Err())
		}
		if last = s.last.Load(); last.err != nil && !last.contains(kid) {
			return nil, s.unavailable(last.err)
		}
	}
	return last.find(alg, kid), nil
}

// unavailable returns an ErrUnavailable with the reason why the set was not fetched.
func (s *keySet) unavailable(reason error) error {
	return withDetail(ErrUnavailable, "JWK Set %s not fetched: %s", redact.Text(s.public), redact.Text(reason.Error()))
}

// refresh requests a fetch without waiting for it.
func (s *keySet) refresh() { s.last.Load().fetchNext() }

// status returns the state after the last fetch.
func (s *keySet) status() Status { return s.last.Load().status }

// ready waits for the first fetch. If no key is known, its error states the reason.
func (s *keySet) ready(ctx context.Context) error {
	select {
	case <-s.initial.next:
	case <-ctx.Done():
		return ctx.Err()
	}
	switch last := s.last.Load(); {
	case len(last.keys) > 0:
		return nil
	case last.err != nil:
		return last.err
	}
	return errors.New("no RS256, PS256, ES256 or EdDSA key in the JWK Set")
}

// contains reports whether f contains a key with that kid, or any key if kid is empty.
func (f *fetched) contains(kid string) bool {
	return slices.ContainsFunc(f.keys, func(key jwkset.JWK) bool { return kid == "" || key.Marshal().KID == kid })
}

// find returns the keys that may verify a token with that alg and kid. An empty kid matches every
// key.
func (f *fetched) find(alg, kid string) (found []jwt.VerificationKey) {
	for _, key := range f.keys {
		m := key.Marshal()
		if (kid == "" || m.KID == kid) && (m.ALG == "" || m.ALG.String() == alg) && slices.Contains(algorithmsFor(key.Key()), alg) {
			found = append(found, key.Key())
		}
	}
	return found
}

// fetchNext requests the fetch after f.
func (f *fetched) fetchNext() {
	select {
	case f.request <- struct{}{}:
	default: // already requested
	}
}
