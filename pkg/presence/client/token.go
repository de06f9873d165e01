package client

import (
	"context"
	"fmt"
	"strings"
	"unicode"
)

// StaticToken returns a function for [Config.Token] that always returns token.
func StaticToken(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}

// token returns the token for one request, empty for none. Its error does not contain a token.
func (c *Client) token(ctx context.Context) (string, error) {
	if c.config.Token == nil {
		return "", nil
	}
	token, err := c.config.Token(ctx)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	if strings.ContainsFunc(token, unicode.IsControl) {
		return "", ErrToken
	}
	return token, nil
}
