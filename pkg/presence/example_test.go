package presence_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"

	"github.com/go-chi/chi/v5"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/client"
)

// sessions maps session ids to user ids, like the session store of a web site.
type sessions map[string]string

// Authenticate returns the user of the site's own session cookie.
func (s sessions) Authenticate(r *http.Request) (presence.User, error) {
	cookie, err := r.Cookie("session")
	if err != nil {
		return presence.User{}, auth.ErrNoToken
	}
	id, found := s[cookie.Value]
	if !found {
		return presence.User{}, auth.ErrBadToken
	}
	hash := sha256.Sum256([]byte(cookie.Value))
	return presence.User{
		ID:      id,
		Join:    []string{"*"},
		Send:    []string{"*"},
		Session: hex.EncodeToString(hash[:]), // protects the cookie from pages of other origins
	}, nil
}

// A program mounts the server in its own chi router, authenticates users by its own session cookie,
// and publishes to a room.
func Example() {
	server, err := presence.New(presence.Config{Authenticator: sessions{"c4f81e02": "alice"}})
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

	// A browser sends the cookie automatically. A Go client sends it from a cookie jar.
	jar, err := cookiejar.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	siteURL, err := url.Parse(site.URL)
	if err != nil {
		log.Fatal(err)
	}
	jar.SetCookies(siteURL, []*http.Cookie{{Name: "session", Value: "c4f81e02"}})
	room, err := client.New(client.Config{URL: site.URL + "/presence", Room: "doc-1", HTTPClient: &http.Client{Jar: jar}})
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
			if _, err := server.Publish(context.Background(), "doc-1", "saved", map[string]int{"version": 7}); err != nil {
				log.Fatal(err)
			}
		case client.Message:
			fmt.Println(v.Event+":", string(v.Data))
			// Shutdown ends the streams, so call it before you close the listener. It does not
			// deadlock in this loop: it queues the goodbye, and does not wait until the loop reads
			// it.
			if err := server.Shutdown(context.Background()); err != nil {
				log.Fatal(err)
			}
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
