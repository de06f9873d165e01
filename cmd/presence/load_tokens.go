package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/presence/cmd/presence/internal/load"
	"example.com/presence/pkg/presence/auth"
)

// maxGuests is the number of guests that a load signs in, as each takes a request.
const maxGuests = 100

// loadTokens are the flags with the credentials of a load.
type loadTokens struct {
	Token        string `placeholder:"TOKEN" help:"Token of all clients and senders. A token on the command line is visible in the process list. Default: none."`
	Tokens       string `placeholder:"FILE" help:"File with one token per line, which clients and senders use in turn. Each must allow to join and send to the rooms. Default: none."`
	PublishToken string `placeholder:"TOKEN" help:"Token or API key for messages only. Default: the tokens of the clients."`
	Senders      int    `default:"100" placeholder:"N" help:"Number of users that send the messages in turn, if a secret is set. Default: 100."`

	secretFlags
}

// set sets the tokens of the clients and of the messages: those of the flags, or those that it
// mints with the secret, or those of guests.
func (c *loadTokens) set(ctx context.Context, config *load.Config) (err error) {
	given := 0
	for _, set := range []bool{c.Token != "", c.Tokens != "", c.hasSecret()} {
		if set {
			given++
		}
	}
	switch {
	case given > 1:
		return usagef("--token, --tokens and a secret exclude each other (also as $PRESENCE_TOKEN, $PRESENCE_TOKENS, $PRESENCE_JWT_SECRET and $PRESENCE_JWT_SECRET_FILE)")
	case c.Senders < 1:
		return usagef("--senders is at least 1, not %d", c.Senders)
	case c.Token != "":
		config.Tokens = []string{c.Token}
	case c.Tokens != "":
		config.Tokens, err = readTokens(c.Tokens)
	case c.hasSecret():
		config.Tokens, err = c.mintAll(config, "load-", config.Clients)
		if err == nil {
			config.SenderTokens, err = c.mintAll(config, "load-sender-", c.Senders)
		}
	case config.Target == load.Presence:
		config.Tokens, err = guests(ctx, config)
	}
	if err != nil {
		return err
	}
	if c.PublishToken != "" {
		config.SenderTokens = []string{c.PublishToken}
	} else if config.SenderTokens == nil {
		config.SenderTokens = config.Tokens
	}
	for _, token := range append(config.Tokens[:len(config.Tokens):len(config.Tokens)], config.SenderTokens...) {
		if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return usagef("--token, --tokens and --publish-token must not contain blanks, control characters or characters beyond ASCII")
		}
	}
	return nil
}

// readTokens returns the lines of a file.
func readTokens(name string) (tokens []string, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, usagef("--tokens: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" {
			tokens = append(tokens, line)
		}
	}
	if len(tokens) == 0 {
		return nil, usagef("--tokens: no token in %s", name)
	}
	return tokens, nil
}

// mintAll returns tokens of n users, with the claims that the target expects.
func (c *loadTokens) mintAll(config *load.Config, prefix string, n int) (tokens []string, err error) {
	_, secret, err := c.secrets(readLimited)
	if err != nil {
		return nil, err
	}
	ttl := config.Ramp + config.Duration + time.Hour
	for i := range n {
		user, token := fmt.Sprintf("%s%d", prefix, i), ""
		if config.Target == load.Presence {
			all := []string{"*"}
			token, err = auth.Mint(secret, auth.Claims{
				Sub: user, Name: user, Join: all, Send: all, Issuer: c.JWTIssuer, Audience: c.JWTAudience, TTL: ttl,
			})
		} else {
			all := []string{"*"}
			token, err = jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
				"sub": user, "exp": time.Now().Add(ttl).Unix(),
				"mercure": map[string][]string{"subscribe": all, "publish": all},
			}).SignedString(secret)
		}
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, token)
	}
	return tokens, nil
}

// guests signs in guests, if the server allows it. Otherwise there are no tokens: an embedding
// program may require none.
func guests(ctx context.Context, config *load.Config) (tokens []string, err error) {
	client := &http.Client{Transport: config.Transport, Timeout: 10 * time.Second}
	base := strings.TrimSuffix(config.URL, "/")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/session", nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, ctx.Err() // if the server cannot be reached, load.Run states the cause
	}
	var session struct{ Guests bool }
	err = json.NewDecoder(io.LimitReader(response.Body, 64<<10)).Decode(&session)
	response.Body.Close()
	if err != nil || !session.Guests {
		return nil, nil
	}
	for i := range min(config.Clients, maxGuests) {
		body := fmt.Sprintf(`{"name":"load-%d"}`, i)
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/login", strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if err != nil {
			return nil, err
		}
		response.Body.Close()
		token := ""
		for _, cookie := range response.Cookies() {
			if strings.HasSuffix(cookie.Name, "presence_token") {
				token = cookie.Value
			}
		}
		if token == "" {
			return nil, fmt.Errorf("sign in as a guest: status %d", response.StatusCode)
		}
		tokens = append(tokens, token)
	}
	return tokens, nil
}
