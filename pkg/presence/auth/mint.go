package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Claims is what a token is to say. The zero value of each field but Sub leaves
// its claim out.
type Claims struct {
	Sub  string // required
	Name string

	// Join and Send are patterns. If both are nil, the token may join and send
	// to lobby.
	Join, Send []string

	Info             json.RawMessage
	Admin            bool
	SID              string
	Issuer, Audience string

	// TTL is how long from now the token is good; zero is for ever. It ends on a
	// whole second, the next one.
	TTL time.Duration
}

// Mint returns a token, signed with HS256, that is issued now and says c. It
// fails if secret is none for [Secret], or if c is out of the bounds of a [User]
// or of a token.
func Mint(secret []byte, c Claims) (string, error) {
	if _, err := Secret(secret); err != nil {
		return "", err
	}
	u, err := User{ID: c.Sub, Name: c.Name, Info: c.Info}.Checked()
	if err != nil {
		return "", fmt.Errorf("auth: mint token: %w", err)
	}
	if c.TTL < 0 {
		return "", fmt.Errorf("auth: mint token: TTL is at least 0s, not %v", c.TTL)
	}
	if c.Join == nil && c.Send == nil {
		c.Join, c.Send = []string{"lobby"}, []string{"lobby"}
	}
	type presence struct {
		Join  []string        `json:"join,omitempty"`
		Send  []string        `json:"send,omitempty"`
		Info  json.RawMessage `json:"info"`
		Admin bool            `json:"admin,omitempty"`
	}
	now := time.Now()
	said := struct {
		Sub      string   `json:"sub"`
		Name     string   `json:"name,omitempty"`
		SID      string   `json:"sid,omitempty"`
		Issuer   string   `json:"iss,omitempty"`
		Audience string   `json:"aud,omitempty"`
		Issued   int64    `json:"iat"`
		Expires  int64    `json:"exp,omitempty"`
		Presence presence `json:"presence"`
	}{c.Sub, c.Name, c.SID, c.Issuer, c.Audience, now.Unix(), 0, presence{c.Join, c.Send, u.Info, c.Admin}}
	if c.TTL > 0 {
		said.Expires = now.Add(c.TTL).Add(time.Second - 1).Unix()
	}

	// Not through jwt.NewWithClaims, which escapes <, > and & in Info to six
	// bytes each, and so past the limit of what it may have.
	var payload bytes.Buffer
	enc := json.NewEncoder(&payload)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(said); err != nil {
		return "", fmt.Errorf("auth: mint token: %w", err)
	}
	base64 := base64.RawURLEncoding.EncodeToString
	token := base64([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + base64(payload.Bytes())
	signature, err := jwt.SigningMethodHS256.Sign(token, secret)
	if err != nil {
		return "", fmt.Errorf("auth: mint token: %w", err)
	}
	token += "." + base64(signature)
	if len(token) > maxToken {
		return "", errors.New("auth: mint token: it is longer than 8 KiB")
	}
	return token, nil
}
