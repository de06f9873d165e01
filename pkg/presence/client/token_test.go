package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/client"
)

var errVault = errors.New("vault is sealed")

// numbered returns a token function that returns token-1, token-2 and so on.
func numbered() func(context.Context) (string, error) {
	n := 0
	return func(context.Context) (string, error) {
		n++
		return fmt.Sprintf("token-%d", n), nil
	}
}

// with returns a function that sets Config.Token.
func with(token func(context.Context) (string, error)) func(*client.Config) {
	return func(c *client.Config) { c.Token = token }
}

func TestTokenIsCalledForEachRequest(t *testing.T) {
	var got []string
	c, _ := open(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.URL.Path+" "+r.Header.Get("Authorization"))
		switch {
		case r.Method == http.MethodPost:
			w.WriteHeader(http.StatusAccepted)
			io.WriteString(w, `{"id":"e-1"}`)
		case r.Method == http.MethodPut:
			w.WriteHeader(http.StatusNoContent)
		case len(got) < 5:
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "retry: 1\n\n")
		default:
			http.NotFound(w, r)
		}
	}, with(numbered()))
	if _, err := c.Send(t.Context(), client.Message{}); err != nil {
		t.Error(err)
	}
	if err := c.SetState(t.Context(), nil); err != nil {
		t.Error(err)
	}
	follow(t.Context(), c)
	want := []string{"/live/messages Bearer token-1", "/live/state Bearer token-2",
		"/live/events Bearer token-3", "/live/events Bearer token-4", "/live/events Bearer token-5"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTokenMayBeEmpty(t *testing.T) {
	for name, token := range map[string]func(context.Context) (string, error){"nil": nil, "empty": client.StaticToken("")} {
		c, _ := open(t, func(w http.ResponseWriter, r *http.Request) {
			if got, ok := r.Header["Authorization"]; ok {
				t.Errorf("%s: got Authorization %q, want none", name, got)
			}
			w.WriteHeader(http.StatusAccepted)
			io.WriteString(w, `{"id":"e-1"}`)
		}, with(token))
		if _, err := c.Send(t.Context(), client.Message{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTokenErrorEndsACall(t *testing.T) {
	c, _ := open(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("got %s %s, want no request", r.Method, r.URL) },
		with(func(context.Context) (string, error) { return "", errVault }))
	_, err := c.Send(t.Context(), client.Message{})
	if want := `client: send to room "doc-1": token: vault is sealed`; !errors.Is(err, errVault) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	err = c.SetState(t.Context(), nil)
	if want := `client: set state in room "doc-1": token: vault is sealed`; !errors.Is(err, errVault) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// The client rejects a token with a control character when it uses the token. No error and no log
// line contains the token.
func TestTokenWithAControlCharacter(t *testing.T) {
	for _, token := range []string{"secret\n", "sec\x00ret", "secret\x7f", "\tsecret"} {
		f := func(r *http.Request) (*http.Response, error) {
			t.Errorf("got %s %s, want no request", r.Method, r.URL)
			return response(404, nil, http.NoBody), nil
		}
		var log bytes.Buffer
		within(t, f, func(t *testing.T, c *client.Client) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, sent := c.Send(ctx, client.Message{})
			_, followed := follow(ctx, c)
			for _, err := range []error{sent, c.SetState(ctx, nil), followed} {
				if !errors.Is(err, client.ErrToken) || strings.Contains(log.String()+err.Error(), "sec") {
					t.Errorf("%q: got %v, want %v without the token; log:\n%s", token, err, client.ErrToken, &log)
				}
			}
		}, with(client.StaticToken(token)), func(c *client.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	}
}

// After an error of the token function, Events retries as after a network failure. This includes an
// error that wraps a final one.
func TestEventsRetriesTheToken(t *testing.T) {
	var at []time.Time
	token := func(context.Context) (string, error) {
		switch at = append(at, time.Now()); len(at) {
		case 1:
			return "", errVault
		case 2:
			return "", &client.Problem{Status: 403}
		case 3:
			return "", client.ErrToken
		}
		return "good", nil
	}
	requests := 0
	f := func(r *http.Request) (*http.Response, error) {
		requests++
		if got := r.Header.Get("Authorization"); got != "Bearer good" {
			t.Errorf("got Authorization %q, want Bearer good", got)
		}
		return response(404, nil, http.NoBody), nil
	}
	within(t, f, func(t *testing.T, c *client.Client) {
		_, err := follow(t.Context(), c)
		if p := new(client.Problem); !errors.As(err, &p) || p.Status != 404 || requests != 1 || len(at) != 4 {
			t.Fatalf("got %v after %d requests and %d token calls, want 404 after 1 and 4", err, requests, len(at))
		}
		for i, want := range []time.Duration{3 * time.Second, 6 * time.Second, 12 * time.Second} {
			if got := at[i+1].Sub(at[i]); got < want || got > want*3/2 {
				t.Errorf("wait %d: got %v, want %v to %v", i+1, got, want, want*3/2)
			}
		}
	}, with(token))
}

// Events ends when its context ends, even while it waits for the token function.
func TestEventsEndsWhileItWaitsForTheToken(t *testing.T) {
	token := func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", errVault
	}
	within(t, nil, func(t *testing.T, c *client.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := follow(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
	}, with(token))
}

// rejections contains the two responses with which a server rejects a token.
var rejections = map[string]func() *http.Response{
	"401": func() *http.Response { return response(401, nil, http.NoBody) },
	"goodbye expired": func() *http.Response {
		return stream(io.NopCloser(strings.NewReader("id: e-1\nretry: 3000\nevent: goodbye\ndata: {\"reason\":\"expired\"}\n\n")))
	},
}

func isRejection(err error) bool {
	var p *client.Problem
	var g *client.Goodbye
	return errors.As(err, &p) && p.Status == 401 || errors.As(err, &g) && g.Reason == "expired"
}

// Events does not send a rejected token again but ends immediately.
func TestEventsEndsWithTheSameToken(t *testing.T) {
	for name, reject := range rejections {
		for kind, token := range map[string]func(context.Context) (string, error){"nil": nil, "static": client.StaticToken("secret")} {
			t.Run(name+" "+kind, func(t *testing.T) {
				requests := 0
				f := func(*http.Request) (*http.Response, error) {
					if requests++; requests > 1 {
						return response(404, nil, http.NoBody), nil
					}
					return reject(), nil
				}
				within(t, f, func(t *testing.T, c *client.Client) {
					start := time.Now()
					if _, err := follow(t.Context(), c); !isRejection(err) || requests != 1 || time.Since(start) != 0 {
						t.Errorf("got %v after %d requests and %v, want the rejection after 1 request and 0s", err, requests, time.Since(start))
					}
				}, with(token))
			})
		}
	}
}

// If the token function returns a new token after a rejection, Events reconnects with it after the
// usual wait.
func TestEventsReconnectsWithANewToken(t *testing.T) {
	for name, reject := range rejections {
		t.Run(name, func(t *testing.T) {
			current := "old"
			var got []string
			var at []time.Time
			f := func(r *http.Request) (*http.Response, error) {
				got, at = append(got, r.Header.Get("Authorization")+" "+r.Header.Get("Last-Event-ID")), append(at, time.Now())
				if len(got) == 1 {
					current = "new"
					return reject(), nil
				}
				return response(403, nil, http.NoBody), nil
			}
			within(t, f, func(t *testing.T, c *client.Client) {
				_, err := follow(t.Context(), c)
				last := ""
				if name != "401" {
					last = "e-1"
				}
				if want := []string{"Bearer old ", "Bearer new " + last}; !slices.Equal(got, want) {
					t.Fatalf("got the requests %q, want %q", got, want)
				}
				if p := new(client.Problem); !errors.As(err, &p) || p.Status != 403 {
					t.Errorf("got %v, want 403, which a new token cannot change", err)
				}
				if waited := at[1].Sub(at[0]); waited < 3*time.Second || waited > 4500*time.Millisecond {
					t.Errorf("waited %v, want 3s to 4.5s", waited)
				}
			}, with(func(context.Context) (string, error) { return current, nil }))
		})
	}
}

// Events backs off even if each token is new, so that a server that rejects all of them does not
// cause a busy loop.
func TestEventsBacksOffWithNewTokens(t *testing.T) {
	var at []time.Time
	f := func(r *http.Request) (*http.Response, error) {
		if at = append(at, time.Now()); len(at) > 6 {
			return response(404, nil, http.NoBody), nil
		}
		return response(401, nil, http.NoBody), nil
	}
	within(t, f, func(t *testing.T, c *client.Client) {
		follow(t.Context(), c)
		for i, want := range []time.Duration{3, 6, 12, 24, 30, 30} {
			want *= time.Second
			if got := at[i+1].Sub(at[i]); got < want || got > want*3/2 {
				t.Errorf("wait %d: got %v, want %v to %v", i+1, got, want, want*3/2)
			}
		}
	}, with(numbered()))
}

// If the token function fails after a rejection, Events calls it again instead of ending.
func TestEventsRetriesTheTokenAfterARejection(t *testing.T) {
	for name, reject := range rejections {
		t.Run(name, func(t *testing.T) {
			calls, requests := 0, 0
			token := func(context.Context) (string, error) {
				if calls++; calls == 2 || calls == 3 {
					return "", errVault
				}
				return "secret", nil
			}
			f := func(r *http.Request) (*http.Response, error) {
				if requests++; requests > 2 {
					return response(404, nil, http.NoBody), nil
				}
				return reject(), nil
			}
			within(t, f, func(t *testing.T, c *client.Client) {
				// The calls of the token function:
				//
				//	1   returns a token, which the server rejects
				//	2   fails, so Events cannot compare the tokens
				//	3   fails in the next attempt
				//	4   returns a token, which the server rejects
				//	5   returns the same token, so Events ends
				if _, err := follow(t.Context(), c); !isRejection(err) || requests != 2 || calls != 5 {
					t.Errorf("got %v after %d requests and %d token calls, want the rejection after 2 and 5", err, requests, calls)
				}
			}, with(token))
		})
	}
}

// Events ends after "removed" and "signed out" even if there is a new token, because these reasons
// apply to the user.
func TestEventsEndsDespiteANewToken(t *testing.T) {
	for _, reason := range []string{"removed", "signed out"} {
		requests := 0
		f := func(r *http.Request) (*http.Response, error) {
			if requests++; requests > 1 {
				return response(404, nil, http.NoBody), nil
			}
			return stream(io.NopCloser(strings.NewReader(fmt.Sprintf("event: goodbye\ndata: {\"reason\":%q}\n\n", reason)))), nil
		}
		within(t, f, func(t *testing.T, c *client.Client) {
			_, err := follow(t.Context(), c)
			if g := new(client.Goodbye); !errors.As(err, &g) || g.Reason != reason || requests != 1 {
				t.Errorf("got %v after %d requests, want %s after 1", err, requests, reason)
			}
		}, with(numbered()))
	}
}
