package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"example.com/presence/pkg/presence/internal/redact"
)

// maxKeys is the maximum number of keys of a JWT, because a forged token costs one verification per
// key. 16 secrets cost 0.02 ms of CPU time, and 16 public keys 0.5 to 1 ms (BenchmarkForgedToken).
const maxKeys = 16

// maxFingerprint is the maximum length of a fingerprint that lists the keys, in bytes. The nodes of
// a cluster compare settings of at most this length.
const maxFingerprint = 256

var (
	errAlgorithm  = badToken(reasonAlgorithm, "algorithm not accepted")
	errSignature  = badToken(reasonSignature, "signature mismatch")
	errUnknownKey = badToken(reasonUnknownKey, "signed with an unknown key")
)

// keyring holds the keys of a JWT. It is immutable.
type keyring struct {
	keys        []Key   // without that of JWKS
	set         *keySet // nil without JWKS
	fingerprint string
}

// newKeyring returns a keyring of 1 to maxKeys keys, of which at most one is a JWK Set.
func newKeyring(keys []Key) (*keyring, error) {
	if len(keys) == 0 || slices.ContainsFunc(keys, func(k Key) bool { return k.algorithms == nil }) {
		return nil, errors.New("auth: missing key")
	}
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("auth: too many keys (%d, maximum %d)", len(keys), maxKeys)
	}
	var ring keyring
	var prints []string
	for _, k := range keys {
		prints = append(prints, k.fingerprint)
		switch {
		case k.set == nil:
			ring.keys = append(ring.keys, k)
		case ring.set != nil:
			return nil, errors.New("auth: more than one JWK Set")
		default:
			ring.set = k.set
		}
	}
	slices.Sort(prints)
	prints = slices.Compact(prints)
	ring.fingerprint = strings.Join(prints, "+")
	if len(prints) > 1 && len(ring.fingerprint) > maxFingerprint {
		ring.fingerprint = "keys-" + digest([]byte(ring.fingerprint))
	}
	return &ring, nil
}

// find returns the known keys that may verify a token with that alg and kid: first those with the
// kid, then the others. pending means that the JWK Set has no key with the kid, so its next fetch
// may return one. The error is errAlgorithm if no key accepts alg.
func (r *keyring) find(alg, kid string) (found []jwt.VerificationKey, pending bool, err error) {
	accepted := false
	if r.set != nil && slices.Contains(setAlgorithms, alg) {
		accepted = true
		found, pending = r.set.find(alg, kid)
	}
	for _, named := range []bool{true, false} {
		for _, k := range r.keys {
			if slices.Contains(k.algorithms, alg) && (kid != "" && k.kid == kid) == named {
				accepted = true
				found = append(found, k.verifies)
			}
		}
	}
	if !accepted {
		return nil, false, errAlgorithm
	}
	return found, pending, nil
}

// explain adds the cause of a failed verification to its error, for the log. header is that of the
// token. Anyone can have written it, because the signature may not match. tried is the number of
// keys that were tried.
func (r *keyring) explain(err error, header map[string]any, tried int) error {
	headers := headerText(header, "alg") + ", " + headerText(header, "kid")
	switch {
	case errors.Is(err, errAlgorithm):
		return withDetail(err, "%s (accepted %s)", headers, strings.Join(r.algorithms(), ", "))
	case errors.Is(err, errSignature):
		return withDetail(err, "no key verifies it, %d tried (%s, key fingerprint %s)", tried, headers, r.fingerprint)
	case errors.Is(err, errUnknownKey):
		return withDetail(err, "%s (key fingerprint %s)", headers, r.fingerprint)
	}
	return err
}

// maxHeader is the maximum length of a header of a token in the log, in bytes.
const maxHeader = 64

// headerText returns a header of a token with its name for the log.
func headerText(header map[string]any, name string) string {
	switch value := header[name].(type) {
	case nil:
		return "no " + name
	case string:
		if len(value) > 4*maxHeader { // a forged token must not cost a search for tokens in it
			return fmt.Sprintf("%s of %d bytes", name, len(value))
		}
		return name + " " + redact.Quote(value, maxHeader)
	}
	return name + " not a string"
}

// algorithms returns the algorithms that the keys accept, sorted.
func (r *keyring) algorithms() (all []string) {
	if r.set != nil {
		all = slices.Clone(setAlgorithms)
	}
	for _, k := range r.keys {
		all = append(all, k.algorithms...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
