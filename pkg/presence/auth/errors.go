package auth

import (
	"errors"
	"fmt"
)

var (
	// ErrNoToken means that the request contains no token in any of the places where Authenticate
	// looks.
	ErrNoToken = errors.New("no token")

	// ErrBadToken means that the request contains an invalid token. An error that wraps it states
	// the reason. Its text may be shown to the client, because it contains no part of the token.
	ErrBadToken = errors.New("invalid token")

	// ErrUnavailable means that the token cannot be verified, because the keys are not available.
	// The same token may be accepted later.
	ErrUnavailable = errors.New("keys unavailable")
)

// The results of [FailureReason].
const (
	reasonNoToken     = "no_token"         // ErrNoToken
	reasonMalformed   = "malformed"        // not one JWT, or a JWT with an invalid header
	reasonTooLong     = "too_long"         // more than 8 KiB
	reasonAlgorithm   = "algorithm"        // no key accepts the algorithm
	reasonUnknownKey  = "unknown_key"      // no key to verify the token with
	reasonSignature   = "signature"        // no key verifies the signature
	reasonExpired     = "expired"          // exp
	reasonNotYetValid = "not_yet_valid"    // nbf
	reasonIssuer      = "issuer"           // iss
	reasonAudience    = "audience"         // aud
	reasonClaim       = "claim"            // ClaimError, or no sub
	reasonUnavailable = "keys_unavailable" // ErrUnavailable
	reasonOther       = "other"            // an error of another package
)

// Reasons lists the results of [FailureReason], for the labels of a metric. Do not change it.
var Reasons = []string{
	reasonNoToken, reasonMalformed, reasonTooLong, reasonAlgorithm, reasonUnknownKey, reasonSignature, reasonExpired,
	reasonNotYetValid, reasonIssuer, reasonAudience, reasonClaim, reasonUnavailable, reasonOther,
}

// FailureReason returns the reason for an error of [JWT.Authenticate], one of [Reasons]:
//
//	no_token          the request has no token
//	keys_unavailable  ErrUnavailable: the JWK Set that may have the key cannot be fetched
//	too_long          the token exceeds 8 KiB
//	malformed         not one JWT, or its header has crit or a kid that is not a string
//	algorithm         no key accepts the algorithm of the token
//	unknown_key       the JWK Set has no key for the kid, and no other key accepts the algorithm
//	signature         at least one key was tried, and none verifies the signature
//	claim             a ClaimError, or sub is missing
//	expired           exp is in the past
//	not_yet_valid     nbf is in the future
//	issuer, audience  iss or aud is another than the required one
//	other             an error that this package does not return
//
// It returns an empty string for nil.
func FailureReason(err error) string {
	var bad *tokenError
	var claim *ClaimError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &bad):
		return bad.reason
	case errors.As(err, &claim):
		return reasonClaim
	case errors.Is(err, ErrNoToken):
		return reasonNoToken
	case errors.Is(err, ErrUnavailable):
		return reasonUnavailable
	}
	return reasonOther
}

// verifiedError is the error of a token whose signature was verified.
type verifiedError struct {
	error
	user string
}

func (e *verifiedError) Unwrap() error { return e.error }

// withUser adds the ID of the user to an error, unless the ID is empty.
func withUser(err error, user string) error {
	if user == "" {
		return err
	}
	return &verifiedError{err, user}
}

// VerifiedUser returns the user ID in the token for an error of [JWT.Authenticate], for the log. It
// is empty unless a key verified the signature: otherwise anyone can have written the ID. The user
// is not authenticated, because the token has expired, or has another invalid claim.
func VerifiedUser(err error) string {
	if v := new(verifiedError); errors.As(err, &v) {
		return v.user
	}
	return ""
}

// detailedError is an error with a detail for the log.
type detailedError struct {
	error
	detail string
}

func (e *detailedError) Unwrap() error { return e.error }

func withDetail(err error, detail string, args ...any) error {
	return &detailedError{err, fmt.Sprintf(detail, args...)}
}

// LogDetail returns the text of an error of [JWT.Authenticate] for the log. It adds the values that
// lead to the cause to the text of the error, such as the issuer of the token and the required one:
//
//	invalid token: wrong issuer: "https://a.example" (required "https://b.example")
//
// Do not send it to a client, because it contains settings of the server. It contains only the alg
// and kid headers of a token whose signature is not verified, at most 64 bytes of each, and never a
// token. LogDetail returns the text of any other error unchanged, and an empty string for nil.
func LogDetail(err error) string {
	if err == nil {
		return ""
	}
	if d := new(detailedError); errors.As(err, &d) {
		return err.Error() + ": " + d.detail
	}
	return err.Error()
}

// tokenError is an ErrBadToken for a reason other than a ClaimError.
type tokenError struct {
	reason string // one of Reasons
	text   string
}

func badToken(reason, text string) error { return &tokenError{reason, text} }

func (e *tokenError) Error() string { return ErrBadToken.Error() + ": " + e.text }
func (e *tokenError) Unwrap() error { return ErrBadToken }

// ClaimError is an [ErrBadToken] for a claim of the wrong type or outside its limits. Its text may
// be shown to the client.
type ClaimError struct {
	Claim  string // such as sub or presence.join; presence.info is named info
	Reason string // continues a sentence that starts with the claim, such as "must be a string"
}

// Error returns the text of ErrBadToken, the claim and the reason.
func (e *ClaimError) Error() string {
	return ErrBadToken.Error() + ": " + e.Claim + " " + e.Reason
}

// Unwrap returns ErrBadToken.
func (e *ClaimError) Unwrap() error { return ErrBadToken }
