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

// JWKS takes the keys from the JWK Set (RFC 7517) at address, an http or https
// URL that does not redirect. Keys of RS256, PS256, ES256 and EdDSA count, as
// for [PublicKey], and of those the ones that are for signatures; the others are
// passed over.
//
// The set is fetched at once, every 5 minutes, and 30 s after it could not be
// had; also as soon as a token has a kid that is not in it, which makes that
// token wait, but no sooner than 5 s after the fetch before. While the set
// cannot be had, the keys that were in it last go on to count, and a token with
// another kid gets [ErrUnavailable]. A token without kid is tried with each key
// that there is.
//
// JWKS does not wait for the first fetch; it fails only if address is no such
// URL. ctx bounds the life of the goroutine that fetches. A nil log is
// [slog.Default]; a fetch that failed is logged.
func JWKS(ctx context.Context, address string, log *slog.Logger) (Key, error) {
	// A fetch every few minutes needs no connection kept, nor its goroutines.
	return jwks(ctx, address, log, &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true})
}

const (
	pace    = 5 * time.Second  // at least, from one fetch to the next that a token asks for
	retry   = 30 * time.Second // at most, after one that failed
	refresh = 5 * time.Minute  // at most

	maxFetch = 5 * time.Second // what an answer may take
	maxSet   = 512 << 10       // what it may have, in bytes
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
			// Keys from wherever the answer points to, https or not, would be
			// keys that nobody configured.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	s.last.Store(s.before)
	go s.run(ctx) // until ctx ends
	return Key{[]string{"RS256", "PS256", "ES256", "EdDSA"}, s.find, s.ready}, nil
}

// keySet is a JWK Set that lives elsewhere. The goroutine of run alone fetches
// it and stores last; everybody else reads last.
//
// It is not MicahParks/keyfunc, which (v3.9) says the same of a kid that is not
// there as of a set that cannot be had, tries again only after an hour if the
// first fetch fails and no kid is asked for, loses a whole set to one broken key,
// reads an answer of any length, and never asks how strong an RSA key is.
type keySet struct {
	url    string
	log    *slog.Logger
	client http.Client
	before *answer // before the first fetch: no keys
	last   atomic.Pointer[answer]
}

// answer is what the last fetch brought.
type answer struct {
	keys []jwkset.JWK  // those of an earlier fetch if this one failed
	err  error         // why it failed
	ask  chan struct{} // holds one: a key is missed here
	next chan struct{} // closed once this is no longer the last answer, or no other will come
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
			s.log.Warn("cannot fetch the keys", "err", err)
		case old.err != nil:
			s.log.Info("the keys can be fetched again")
		}
		// Once ctx has ended, the fetch that follows fails at once, and tells
		// those who wait.
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
		return nil, fmt.Errorf("the answer is %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxSet+1))
	if err != nil {
		return nil, err
	}
	var set struct{ Keys []json.RawMessage }
	if len(body) > maxSet || json.Unmarshal(body, &set) != nil || set.Keys == nil {
		return nil, fmt.Errorf("the answer is not a JWK Set of at most %d bytes", maxSet)
	}
	// One by one, as one key that jwkset cannot read must not cost the others
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
		level = slog.LevelWarn // no token will do
	}
	s.log.Log(ctx, level, "keys fetched", "keys", len(keys), "passed_over", len(set.Keys)-len(keys))
	return keys, nil
}

// verifies reports whether key may verify a signature at all.
func verifies(key jwkset.JWK) bool {
	m := key.Marshal()
	return fits(key.Key()) != nil && (m.USE == "" || m.USE == jwkset.UseSig) &&
		(len(m.KEYOPS) == 0 || slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify))
}

// find waits for the next answer if the last one does not know kid.
func (s *keySet) find(ctx context.Context, alg, kid string) (any, error) {
	last := s.last.Load()
	if !last.knows(kid) {
		select {
		case last.ask <- struct{}{}:
		default: // somebody asked before
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
		return nil, badToken("it is signed with a key that is not known here")
	}
	return found, nil
}

// ready waits for the first fetch; the error is the reason why no key is known.
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
