package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
)

// secretFlags are the flags that serve and token share: the secrets that sign and verify tokens,
// and the issuer and audience of the tokens.
type secretFlags struct {
	JWTSecret     string   `name:"jwt-secret" placeholder:"SECRET" help:"Secret for HS256 tokens, at least 32 bytes. A secret on the command line is visible in the process list. Default: none."`
	JWTSecretFile []string `name:"jwt-secret-file" placeholder:"FILE" help:"File that contains a secret for HS256 tokens, at least 32 bytes. Trailing line breaks are ignored. Repeatable: the server accepts the tokens of all secrets, and the first file signs new tokens. The server reads the files again on SIGHUP. Default: none."`
	JWTIssuer     string   `name:"jwt-issuer" placeholder:"ISS" help:"Issuer of tokens (iss claim): the server requires it, and presence token sets it. Default: none, so any issuer is accepted."`
	JWTAudience   string   `name:"jwt-audience" placeholder:"AUD" help:"Audience of tokens (aud claim): the server requires it, and presence token sets it. Default: none, so tokens for other services are accepted too."`
}

type keyFlags struct {
	secretFlags
	JWTPublicKey []string `name:"jwt-public-key" placeholder:"FILE" help:"PEM file with a public key or certificate that verifies tokens: RSA (RS256, PS256), P-256 (ES256) or Ed25519 (EdDSA). Repeatable. The server reads the files again on SIGHUP. Default: none."`
	JWKSURL      string   `name:"jwks-url" placeholder:"URL" help:"URL of a JWK Set with public keys that verify tokens. The server caches the set and fetches it again when keys rotate, and on SIGHUP. Default: none."`
	QueryToken   bool     `help:"Also accept a token in the query parameter access_token. Proxies and access logs may record it. Default: off."`
	Dev          bool     `help:"Development mode. Any client may sign in as a guest, also over plain HTTP. Rejects requests for hosts other than localhost, loopback addresses, and the hosts of --listen and --cors-origin. Listens on 127.0.0.1 unless --listen is set. Generates a secret if none is set. Default: off."`
}

// readFile reads a file with a key: [readLimited] at the start, and [readRegular] later.
type readFile func(name string) ([]byte, error)

// hasSecret reports whether a secret is set.
func (f secretFlags) hasSecret() bool { return f.JWTSecret != "" || len(f.JWTSecretFile) > 0 }

// secrets returns the keys of all secrets, and the secret that signs new tokens: that of the first
// file, or else that of --jwt-secret. The error names the flag and the file.
//
// The signed tokens have no kid, although the keys have one: it would show the name of a file to
// every client, and to try another secret takes 1 µs.
func (f secretFlags) secrets(read readFile) (keys []auth.Key, signing []byte, err error) {
	for _, name := range f.JWTSecretFile {
		secret, err := read(name)
		secret = bytes.TrimRight(secret, "\r\n")
		var key auth.Key
		if err == nil {
			key, err = auth.Secret(secret)
		}
		if err != nil {
			return nil, nil, fileError("--jwt-secret-file", name, err)
		}
		if signing == nil {
			signing = secret
		}
		keys = append(keys, key.WithKID(kidOf(name)))
	}
	if f.JWTSecret != "" {
		secret := []byte(f.JWTSecret)
		key, err := auth.Secret(secret)
		if err != nil {
			return nil, nil, usagef("--jwt-secret: %w", err)
		}
		if signing == nil {
			signing = secret
		}
		keys = append(keys, key)
	}
	return keys, signing, nil
}

// publicKeys returns the keys of --jwt-public-key. The error names the flag and the file.
func (f keyFlags) publicKeys(read readFile) (keys []auth.Key, err error) {
	for _, name := range f.JWTPublicKey {
		file, err := read(name)
		var key auth.Key
		if err == nil {
			key, err = auth.PublicKey(file)
		}
		if err != nil {
			return nil, fileError("--jwt-public-key", name, err)
		}
		keys = append(keys, key.WithKID(kidOf(name)))
	}
	return keys, nil
}

// read returns the keys of all secrets and files, and the secret that signs new tokens.
func (f keyFlags) read(read readFile) (keys []auth.Key, signing []byte, err error) {
	secrets, signing, err := f.secrets(read)
	if err != nil {
		return nil, nil, err
	}
	public, err := f.publicKeys(read)
	return append(secrets, public...), signing, err
}

// kidOf returns the key ID of a file: its name without directory and extension.
func kidOf(file string) string {
	base := filepath.Base(file)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// fileError returns a usage error that names the flag and the file.
func fileError(flag, file string, err error) error {
	if errors.As(err, new(*fs.PathError)) { // contains the name of the file
		return usagef("%s: %w", flag, denied(err))
	}
	return usagef("%s: %s: %w", flag, file, err)
}

// serverKeys are the keys of a running server. They can be read again.
type serverKeys struct {
	flags keyFlags
	fixed []auth.Key // the JWK Set, or the secret that --dev generates
	jwt   *auth.JWT

	mu      sync.RWMutex // guards signing, and that jwt accepts its tokens
	signing []byte       // the secret that signs the tokens of guests; nil without a secret
}

// open reads the keys. If a JWK Set is configured, it is kept up to date until ctx is done.
func (f keyFlags) open(ctx context.Context, log *slog.Logger) (*serverKeys, error) {
	keys, signing, err := f.read(readLimited)
	if err != nil {
		return nil, err
	}
	k := &serverKeys{flags: f, signing: signing}
	switch hasKey := len(keys) > 0 || f.JWKSURL != ""; {
	case hasKey && f.Dev && k.signing == nil:
		flag := "--jwks-url"
		if len(f.JWTPublicKey) > 0 {
			flag = "--jwt-public-key"
		}
		return nil, usagef("--dev requires a secret to sign guest tokens, not %s: set a secret or no key", flag)
	case !hasKey && !f.Dev:
		return nil, usagef("no token verification key: set --jwt-secret-file, --jwt-secret, --jwt-public-key or --jwks-url, or use --dev to try the server")
	case !hasKey:
		k.signing = []byte(rand.Text() + rand.Text())
		generated, err := auth.Secret(k.signing)
		if err != nil {
			return nil, err
		}
		k.fixed = []auth.Key{generated}
	case f.JWKSURL != "":
		set, err := auth.JWKS(ctx, f.JWKSURL, log)
		if err != nil {
			return nil, usagef("--jwks-url: %w", err)
		}
		k.fixed = []auth.Key{set}
	}
	k.jwt, err = auth.New(auth.Config{Keys: append(keys, k.fixed...), Issuer: f.JWTIssuer, Audience: f.JWTAudience, QueryToken: f.QueryToken})
	if err != nil {
		return nil, usagef("--jwt-secret-file, --jwt-public-key: %w", err)
	}
	return k, nil
}

// reload reads all files again and requests a fetch of the JWK Set. If a file is invalid, all
// previous keys stay in use.
func (k *serverKeys) reload() error {
	keys, signing, err := k.flags.read(readRegular)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.jwt.Replace(append(keys, k.fixed...)...); err != nil {
		return err
	}
	if signing != nil { // not with a generated secret
		k.signing = signing
	}
	k.jwt.Refresh()
	return nil
}

// files returns the names of the files with keys.
func (k *serverKeys) files() []string {
	return slices.Concat(k.flags.JWTSecretFile, k.flags.JWTPublicKey)
}

// guest makes a guest and its token.
func (k *serverKeys) guest(name string) (string, presence.User, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	token, err := auth.Mint(k.signing, auth.Claims{
		Sub:      "guest-" + strings.ToLower(rand.Text()[:12]),
		Name:     name,
		Join:     []string{"*"},
		Send:     []string{"*"},
		Issuer:   k.flags.JWTIssuer,
		Audience: k.flags.JWTAudience,
		TTL:      24 * time.Hour,
	})
	if err != nil {
		return "", presence.User{}, err
	}
	guest, err := k.jwt.Authenticate(&http.Request{Header: http.Header{"Authorization": {"Bearer " + token}}})
	return token, guest, err
}

// check returns an error if the JWK Set is not available within 10 s, or if it has no key. A server
// starts without it and retries the fetch.
func (f keyFlags) check(ctx context.Context, j presence.Authenticator) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := j.(*auth.JWT).Ready(ctx); err != nil {
		return fmt.Errorf("--jwks-url: %w", err)
	}
	return nil
}
