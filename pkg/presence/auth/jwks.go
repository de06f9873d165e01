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
)

// JWKS returns a Key that takes its keys from the JWK Set (RFC 7517) at address. The address must
// be an http or https URL that does not redirect.
//
// It uses the keys for RS256, PS256, ES256 and EdDSA, with the requirements of [PublicKey], that
// are for signatures. It ignores all other keys.
//
// JWKS fetches the set:
//
//   - at once, in the background;
//   - every 5 minutes;
//   - 30 s after a failed fetch;
//   - when a token has a kid that is not in the set. That token waits for the fetch. It starts at
//     the earliest 5 s after the previous one.
//
// If a fetch fails, the keys of the last successful fetch stay valid, and a token with an unknown
// kid gets [ErrUnavailable]. A token without a kid is tried with each known key.
//
// JWKS does not wait for the first fetch. It returns an error only if address is not such a URL.
// ctx bounds the life of the goroutine that fetches. A nil log means [slog.Default]; failed fetches
// are logged.
func JWKS(ctx context.Context, address string, log *slog.Logger) (Key, error) {
	// At one fetch per few minutes, keep-alive connections and their goroutines are not worth it.
	return jwks(ctx, address, log, &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true})
}

const (
	pace    = 5 * time.Second  // minimum, from one fetch to the next that a token causes
	retry   = 30 * time.Second // maximum, after a failed fetch
	refresh = 5 * time.Minute  // maximum, after a successful fetch

	maxFetch = 5 * time.Second // timeout of a fetch
	maxSet   = 512 << 10       // limit of a response, in bytes
)

func jwks(ctx context.Context, address string, log *slog.Logger, over http.RoundTripper) (Key, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return Key{}, errors.New("auth: the JWKS URL must be an http or https URL")
	}
	s := &keySet{
		url:    address,
		before: newAnswer(nil, nil),
		log:    cmp.Or(log, slog.Default()).With("url", (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()),
		client: http.Client{
			Transport: over,
			// A redirect could lead to a host that the operator did not configure, over https or
			// not. Its keys must not be trusted.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	s.last.Store(s.before)
	go s.run(ctx) // ends with ctx
	return Key{[]string{"RS256", "PS256", "ES256", "EdDSA"}, s.find, s.ready}, nil
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
	url    string
	log    *slog.Logger
	client http.Client
	before *answer // before the first fetch: no keys
	last   atomic.Pointer[answer]
}

// answer is the result of a fetch.
type answer struct {
	keys []jwkset.JWK  // the keys of an earlier fetch if this one failed
	err  error         // nil if the fetch succeeded
	ask  chan struct{} // capacity 1: requests the next fetch
	next chan struct{} // closed when a newer answer is stored, or when run ends
}

func newAnswer(keys []jwkset.JWK, err error) *answer {
	return &answer{keys, err, make(chan struct{}, 1), make(chan struct{})}
}

func (s *keySet) run(ctx context.Context) {
	for {
		old := s.last.Load()
		keys, err := s.fetch(ctx)
		wait := refresh
		if err != nil {
			keys, wait = old.keys, retry
		}
		fresh := newAnswer(keys, err)
		s.last.Store(fresh)
		close(old.next)
		switch {
		case err != nil && ctx.Err() != nil:
			close(fresh.next)
			return
		case err != nil:
			s.log.Warn("JWK Set fetch failed", "err", err)
		case old.err != nil:
			s.log.Info("JWK Set fetch recovered")
		}
		// When ctx has ended, the next fetch fails at once and wakes the waiting tokens.
		select {
		case <-time.After(pace):
		case <-ctx.Done():
		}
		select {
		case <-time.After(wait - pace):
		case <-fresh.ask:
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
	if refused := new(url.Error); errors.As(err, &refused) {
		return nil, refused.Err // without the URL, whose query may hold a secret
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
		return nil, fmt.Errorf("the response is not a JWK Set of at most %d bytes", maxSet)
	}
	// Decode the keys one by one: a key that jwkset cannot read must not invalidate the whole set
	// (RFC 7517 section 5).
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
	s.log.Log(ctx, level, "JWK Set fetched", "keys", len(keys), "passed_over", len(set.Keys)-len(keys))
	return keys, nil
}

// verifies reports whether key may verify a signature.
func verifies(key jwkset.JWK) bool {
	m := key.Marshal()
	return fits(key.Key()) != nil && (m.USE == "" || m.USE == jwkset.UseSig) &&
		(len(m.KEYOPS) == 0 || slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify))
}

// find returns the keys for kid. It waits for the next answer if the last one does not have kid.
func (s *keySet) find(ctx context.Context, alg, kid string) (any, error) {
	last := s.last.Load()
	if !last.knows(kid) {
		select {
		case last.ask <- struct{}{}:
		default: // already requested
		}
		select {
		case <-last.next:
		case <-ctx.Done():
			return nil, ErrUnavailable
		}
		if last = s.last.Load(); last.err != nil && !last.knows(kid) {
			return nil, ErrUnavailable
		}
	}
	var found jwt.VerificationKeySet
	for _, key := range last.keys {
		m := key.Marshal()
		if (kid == "" || m.KID == kid) && (m.ALG == "" || m.ALG.String() == alg) && slices.Contains(fits(key.Key()), alg) {
			found.Keys = append(found.Keys, key.Key())
		}
	}
	if found.Keys == nil {
		return nil, badToken("it is signed with an unknown key")
	}
	return found, nil
}

// ready waits for the first fetch. The error is the reason why no key is known.
func (s *keySet) ready(ctx context.Context) error {
	select {
	case <-s.before.next:
	case <-ctx.Done():
		return ctx.Err()
	}
	switch last := s.last.Load(); {
	case len(last.keys) > 0:
		return nil
	case last.err != nil:
		return last.err
	}
	return errors.New("the JWK Set has no key that verifies RS256, PS256, ES256 or EdDSA")
}

// knows reports whether a has a key of that kid, or any key if kid is "".
func (a *answer) knows(kid string) bool {
	return slices.ContainsFunc(a.keys, func(key jwkset.JWK) bool { return kid == "" || key.Marshal().KID == kid })
}
