//go:build unix

package main

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/launchdarkly/eventsource"
	r3labs "github.com/r3labs/sse/v2"
	"github.com/tmaxmax/go-sse"
	"gopkg.in/cenkalti/backoff.v1"
)

// TestGoClientsLargeEvent sends an event that exceeds the default buffers of go-sse and r3labs/sse.
// With the default buffers, these clients would reconnect in a loop and never get past the event.
func TestGoClientsLargeEvent(t *testing.T) {
	t.Parallel()
	e := env{"PRESENCE_JWT_SECRET": secret}
	_, addr := serving(t, e, "--listen=127.0.0.1:0", "--max-message=128KiB", "--max-unsent=1MiB")
	for name, read := range goClients {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		token := must(t, e, "token", "--sub="+name, "--join="+name, "--send="+name)
		counted, large, done := make(chan bool, 1), make(chan int, 1), make(chan error)
		go func() { // ends with ctx
			done <- read(ctx, "http://"+addr+"/events?room="+name, token, func(event, data string) {
				switch event {
				case "user count":
					select {
					case counted <- true:
					default:
					}
				case "message":
					large <- len(data)
				}
			})
		}()
		select {
		case <-counted:
			must(t, e, "send", "--url=http://"+addr, "--token="+token, "--room="+name, strings.Repeat("x", 100<<10))
		case <-ctx.Done():
			t.Error(name, ": no user count received")
		}
		select {
		case n := <-large:
			if n < 100<<10 {
				t.Errorf("%s: got %d bytes", name, n)
			}
		case <-ctx.Done():
			t.Errorf("%s: message not received", name)
		}
		cancel()
		<-done
	}
}

var goClients = map[string]func(ctx context.Context, url, token string, print func(event, data string)) error{
	"tmaxmax":      readWithGoSSE,
	"launchdarkly": readWithLaunchDarkly,
	"r3labs":       readWithR3labs,
}

// docs/clients.md quotes the functions below verbatim.

func readWithGoSSE(ctx context.Context, url, token string, print func(event, data string)) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	connection := sse.NewConnection(request)
	connection.Buffer(nil, 4<<20) // the default of 64 KiB is too small for a large event
	connection.SubscribeToAll(func(e sse.Event) { print(e.Type, e.Data) })
	return connection.Connect()
}

func readWithLaunchDarkly(ctx context.Context, url, token string, print func(event, data string)) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	stream, err := eventsource.SubscribeWithRequestAndOptions(request,
		eventsource.StreamOptionCanRetryFirstConnection(-1),
		eventsource.StreamOptionErrorHandler(func(error) eventsource.StreamErrorHandlerResult {
			return eventsource.StreamErrorHandlerResult{CloseNow: ctx.Err() != nil}
		}))
	if err != nil {
		return err
	}
	for e := range stream.Events {
		print(e.Event(), e.Data())
	}
	return ctx.Err()
}

func readWithR3labs(ctx context.Context, url, token string, print func(event, data string)) error {
	client := r3labs.NewClient(url, r3labs.ClientMaxBufferSize(4<<20)) // the default is 64 KiB
	client.Headers["Authorization"] = "Bearer " + token
	// The default ignores ctx. It gives up after 15 minutes, or immediately at a clean end.
	client.ReconnectStrategy = &backoff.StopBackOff{}
	retry := 3 * time.Second
	for {
		client.SubscribeRawWithContext(ctx, func(e *r3labs.Event) {
			if ms, err := strconv.Atoi(string(e.Retry)); err == nil {
				retry = time.Duration(ms) * time.Millisecond
			}
			print(string(e.Event), string(e.Data))
		})
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
