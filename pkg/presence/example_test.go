package presence_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/go-chi/chi/v5"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/client"
)

// myUsers authenticates users as the host program does; here by a header.
type myUsers struct{}

func (myUsers) Authenticate(r *http.Request) (presence.User, error) {
	name := r.Header.Get("Authorization")
	if name == "" {
		return presence.User{}, auth.ErrNoToken
	}
	return presence.User{ID: name, Join: []string{"*"}, Send: []string{"*"}}, nil
}

// A program mounts the server in its own chi router with its own authenticator, and publishes to a
// room.
func Example() {
	server, err := presence.New(presence.Config{Authenticator: myUsers{}})
	if err != nil {
		log.Fatal(err)
	}
	router := chi.NewRouter()
	router.Get("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "my own page") })
	router.Mount("/presence", server)
	site := httptest.NewUnstartedServer(router)
	site.Listener = server.Harden(site.Config, site.Listener) // the program's own http.Server and listener
	site.Start()
	defer site.Close()

	room, err := client.New(client.Config{URL: site.URL + "/presence", Room: "doc-1", Token: client.StaticToken("alice")})
	if err != nil {
		log.Fatal(err)
	}
	for event, err := range room.Events(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		value, err := event.Value()
		if err != nil {
			log.Fatal(err)
		}
		switch v := value.(type) {
		case client.Count:
			fmt.Println("here now:", v)
			server.Publish(context.Background(), "doc-1", "saved", map[string]int{"version": 7})
		case client.Message:
			fmt.Println(v.Event+":", string(v.Data))
			// End the streams first, then close the listener.
			server.Shutdown(context.Background())
		case client.Goodbye:
			fmt.Println("goodbye:", v.Reason)
			return
		}
	}
	// Output:
	// here now: 1
	// saved: {"version":7}
	// goodbye: draining
}
