package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
)

// secretFlags are the flags that serve and token share: the secret that signs and verifies tokens,
// and the issuer and audience of the tokens.
type secretFlags struct {
	JWTSecret     string `name:"jwt-secret" placeholder:"SECRET" help:"Secret for HS256 tokens, at least 32 bytes. A secret on the command line is visible in the process list. Default: none."`
	JWTSecretFile string `name:"jwt-secret-file" placeholder:"FILE" help:"File that contains the secret for HS256 tokens, at least 32 bytes. Trailing line breaks are ignored. Default: none."`
	JWTIssuer     string `name:"jwt-issuer" placeholder:"ISS" help:"Issuer of tokens (iss claim): the server requires it, and presence token sets it. Default: none, so any issuer is accepted."`
	JWTAudience   string `name:"jwt-audience" placeholder:"AUD" help:"Audience of tokens (aud claim): the server requires it, and presence token sets it. Default: none, so tokens for other services are accepted too."`
}

type keyFlags struct {
	secretFlags
	JWTPublicKey string `name:"jwt-public-key" placeholder:"FILE" help:"PEM file with the public key or certificate that verifies tokens: RSA (RS256, PS256), P-256 (ES256) or Ed25519 (EdDSA). Default: none."`
	JWKSURL      string `name:"jwks-url" placeholder:"URL" help:"URL of a JWK Set with public keys that verify tokens. The server caches the set and fetches it again when keys rotate. Default: none."`
	QueryToken   bool   `help:"Also accept a token in the query parameter access_token. Proxies and access logs may record it. Default: off."`
	Dev          bool   `help:"Development mode. Any client may sign in as a guest, also over plain HTTP. Listens on 127.0.0.1 unless --listen is set. Generates a secret if none is set. Default: off."`
}

type guestFunc = func(name string) (token string, guest presence.User, err error)

// authenticator returns the authenticator and, with --dev, the function that creates guests;
// without --dev, the function is nil. If a JWK Set is configured, it is kept up to date until ctx
// is done.
func (f keyFlags) authenticator(ctx context.Context, log *slog.Logger) (*auth.JWT, guestFunc, error) {
	flag, err := oneOf("--jwt-secret", f.JWTSecret, "--jwt-secret-file", f.JWTSecretFile, "--jwt-public-key", f.JWTPublicKey, "--jwks-url", f.JWKSURL)
	if err != nil {
		return nil, nil, err
	}
	var key auth.Key
	var secret []byte
	switch flag {
	case "":
		if !f.Dev {
			return nil, nil, usagef("no token verification key: set --jwt-secret-file, --jwt-secret, --jwt-public-key or --jwks-url, or use --dev to try the server")
		}
		secret = []byte(rand.Text() + rand.Text())
		key, err = auth.Secret(secret)
	case "--jwt-public-key":
		key, err = publicKey(f.JWTPublicKey)
	case "--jwks-url":
		key, err = auth.JWKS(ctx, f.JWKSURL, log)
	default:
		key, secret, err = f.secret()
	}
	if err != nil {
		return nil, nil, usagef("%s: %w", flag, err)
	}
	j, err := auth.New(auth.Config{Keys: []auth.Key{key}, Issuer: f.JWTIssuer, Audience: f.JWTAudience, QueryToken: f.QueryToken})
	if err != nil || !f.Dev {
		return j, nil, err
	}
	if secret == nil {
		return nil, nil, usagef("--dev requires a secret to sign guest tokens, not %s: set a secret or no key", flag)
	}
	return j, func(name string) (string, presence.User, error) {
		token, err := auth.Mint(secret, auth.Claims{
			Sub:      "guest-" + strings.ToLower(rand.Text()[:12]),
			Name:     name,
			Join:     []string{"*"},
			Send:     []string{"*"},
			Issuer:   f.JWTIssuer,
			Audience: f.JWTAudience,
			TTL:      24 * time.Hour,
		})
		if err != nil {
			return "", presence.User{}, err
		}
		guest, err := j.Authenticate(&http.Request{Header: http.Header{"Authorization": {"Bearer " + token}}})
		return token, guest, err
	}, nil
}

// check returns an error if the keys of j are not available within 10 s, or if there are none. Only
// the keys of a JWK Set take time, because they are fetched. A server starts without them and
// retries the fetch.
func (f keyFlags) check(ctx context.Context, j presence.Authenticator) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := j.(*auth.JWT).Ready(ctx); err != nil {
		return fmt.Errorf("--jwks-url: %w", err)
	}
	return nil
}

// secret returns the secret from the flag that is set, and the key that verifies tokens with it.
func (f secretFlags) secret() (key auth.Key, secret []byte, err error) {
	secret = []byte(f.JWTSecret)
	if f.JWTSecretFile != "" {
		if secret, err = os.ReadFile(f.JWTSecretFile); err != nil {
			return auth.Key{}, nil, denied(err)
		}
		secret = bytes.TrimRight(secret, "\r\n")
	}
	key, err = auth.Secret(secret)
	return key, secret, err
}

func publicKey(name string) (auth.Key, error) {
	file, err := os.ReadFile(name)
	if err != nil {
		return auth.Key{}, denied(err)
	}
	return auth.PublicKey(file)
}

// oneOf returns the only flag that has a value, or "" if none has. Two flags with a value are an
// error. The arguments are pairs of a flag name and its value.
func oneOf(flags ...string) (flag string, err error) {
	for i := 0; i < len(flags); i += 2 {
		switch {
		case flags[i+1] == "":
		case flag != "":
			return "", usagef("%s and %s are mutually exclusive", flag, flags[i])
		default:
			flag = flags[i]
		}
	}
	return flag, nil
}
