package nats_test

import (
	"context"
	"log"
	"net/http"
	"time"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/nats"
)

// The nodes of a program that use the same NATS account and prefix are one server.
func ExampleOpen() {
	var authenticator presence.Authenticator // such as auth.JWT
	config := presence.Config{Authenticator: authenticator}
	bus, err := nats.Open(context.Background(), nats.Config{
		URLs:     []string{"nats://nats-1:4222", "nats://nats-2:4222"},
		Messages: 1000, // the limits of the history
		Age:      5 * time.Minute,
		Bytes:    64 << 20,
		Largest:  config.LargestPublication(),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer bus.Close() // after the server's Shutdown
	config.Backplane = bus
	server, err := presence.New(config)
	if err != nil {
		log.Fatal(err)
	}
	defer server.Shutdown(context.Background())
	log.Fatal(http.ListenAndServe(":8080", server))
}
