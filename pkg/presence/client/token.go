package client

import "context"

// StaticToken returns a function for [Config.Token] that always returns token.
func StaticToken(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}
