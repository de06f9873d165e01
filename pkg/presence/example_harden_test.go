package presence_test

import (
	"context"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-chi/chi/v5"

	"example.com/presence/pkg/presence"
)

// The main function of a program that serves with the deadlines and limits of Harden, and shuts
// down in the right order after a signal.
func ExampleServer_Harden() {
	server, err := presence.New(presence.Config{Authenticator: sessions{}})
	if err != nil {
		log.Fatal(err)
	}
	router := chi.NewRouter()
	router.Mount("/presence", server)
	listener, err := net.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	h := &http.Server{Handler: router}
	listener = server.Harden(h, listener)
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(listener) }()

	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	select {
	case err := <-failed:
		log.Fatal(err)
	case <-interrupted.Done():
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// End the streams first. Then close the listener and wait for the other requests.
	if err := server.Shutdown(ctx); err != nil {
		log.Print(err) // some streams are still open
	}
	if err := h.Shutdown(ctx); err != nil {
		log.Print(err)
	}
}
