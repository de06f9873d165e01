package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Claims holds the claims of a new token. A zero field omits its claim, except for Sub, which is
// required.
type Claims struct {
	Sub  string // required
	Name string // the token has it without the characters that [User.Checked] removes

	// Join and Send are room patterns. If both are nil, the token may join and send to lobby.
	Join, Send []string

	Info             json.RawMessage
	Admin            bool
	SID              string
	Issuer, Audience string

	// TTL is the time until the token expires, rounded up to a whole second. 0 means that the token
	// never expires.
	TTL time.Duration
}

// Mint returns a new token with the claims c, signed with HS256 and issued now. It returns an error
// if [Secret] rejects secret, or if c exceeds the limits of a [User] or of a token.
func Mint(secret []byte, c Claims) (string, error) {
	if _, err := Secret(secret); err != nil {
		return "", err
	}
	u, err := User{ID: c.Sub, Name: c.Name, Info: c.Info}.Checked()
	if err != nil {
		return "", fmt.Errorf("auth: mint token: %w", err)
	}
	if c.TTL < 0 {
		return "", fmt.Errorf("auth: mint token: negative TTL (%v)", c.TTL)
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
	body := struct {
		Sub      string   `json:"sub"`
		Name     string   `json:"name,omitempty"`
		SID      string   `json:"sid,omitempty"`
		Issuer   string   `json:"iss,omitempty"`
		Audience string   `json:"aud,omitempty"`
		Issued   int64    `json:"iat"`
		Expires  int64    `json:"exp,omitempty"`
		Presence presence `json:"presence"`
	}{c.Sub, u.Name, c.SID, c.Issuer, c.Audience, now.Unix(), 0, presence{c.Join, c.Send, u.Info, c.Admin}}
	if c.TTL > 0 {
		body.Expires = now.Add(c.TTL).Add(time.Second - 1).Unix()
	}

	// Do not use jwt.NewWithClaims, because it escapes each <, > and & in Info to six bytes. Info
	// could then exceed its limit.
	var payload bytes.Buffer
	enc := json.NewEncoder(&payload)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
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
		return "", fmt.Errorf("auth: mint token: token too long (%d bytes, maximum %d)", len(token), maxToken)
	}
	return token, nil
}
