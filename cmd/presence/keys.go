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

// secretFlags say what tokens are signed and checked with, if it is a secret,
// and for whom they are.
type secretFlags struct {
	JWTSecret     string `name:"jwt-secret" placeholder:"SECRET" help:"Secret of HS256 tokens, at least 32 bytes; given here, the list of processes shows it"`
	JWTSecretFile string `name:"jwt-secret-file" placeholder:"FILE" help:"The same from a file, without the line's end"`
	JWTIssuer     string `name:"jwt-issuer" placeholder:"ISS" help:"The iss of tokens"`
	JWTAudience   string `name:"jwt-audience" placeholder:"AUD" help:"The aud of tokens, without which those for another service do here too"`
}

type keyFlags struct {
	secretFlags
	JWTPublicKey string `name:"jwt-public-key" placeholder:"FILE" help:"Public key or certificate, PEM: RS256 and PS256, ES256, or EdDSA"`
	JWKSURL      string `name:"jwks-url" placeholder:"URL" help:"JWK Set with such keys"`
	QueryToken   bool   `help:"Take tokens from ?access_token= too, where they end up in logs"`
	Dev          bool   `help:"For development: whoever comes may sign in as a guest, over plain HTTP too; listens on this machine alone unless --listen is given; draws a secret if there is none"`
}

type guestFunc = func(name string) (token string, guest presence.User, err error)

// authenticator is who says who asks, and what makes guests, nil without --dev.
// ctx bounds the life of a key set.
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
			return nil, nil, usagef("no key to check tokens with: give --jwt-secret-file, --jwt-secret, --jwt-public-key or --jwks-url, or --dev to try it out")
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
	j, err := auth.New(auth.Config{Key: key, Issuer: f.JWTIssuer, Audience: f.JWTAudience, QueryToken: f.QueryToken})
	if err != nil || !f.Dev {
		return j, nil, err
	}
	if secret == nil {
		return nil, nil, usagef("--dev signs tokens for its guests, which %s cannot: give a secret, or no key", flag)
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

// check waits at most 10 s for the keys of j, and fails if there is none. Only those of a JWK Set
// take time. A server starts without them, and fetches them again and again.
func (f keyFlags) check(ctx context.Context, j presence.Authenticator) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := j.(*auth.JWT).Ready(ctx); err != nil {
		return fmt.Errorf("--jwks-url: %w", err)
	}
	return nil
}

// secret reads the secret, of which one is given, and the key that it is.
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

// oneOf returns which flag has a value, "" if none has; it is given each flag
// with its value behind it.
func oneOf(flags ...string) (flag string, err error) {
	for i := 0; i < len(flags); i += 2 {
		switch {
		case flags[i+1] == "":
		case flag != "":
			return "", usagef("%s and %s exclude each other", flag, flags[i])
		default:
			flag = flags[i]
		}
	}
	return flag, nil
}
