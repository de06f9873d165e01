// Command go is a web site that mounts presence below /presence/, beside its own routes. It has a
// sign-in of its own, and presence accepts the cookie of that sign-in. Start it in the directory of
// the repository: go run ./docs/examples/go
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
	"example.com/presence/web"
)

const (
	room   = "lobby"
	cookie = "__Host-session"
	signed = time.Hour // lifetime of a sign-in
)

//go:embed index.html
var page []byte

func main() {
	listen := flag.String("listen", "localhost:3000", "`address` of the site")
	file := flag.String("secret", "secret", "`file` with the secret that signs the sign-ins, at least 32 bytes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, *file); err != nil {
		log.Fatal(err)
	}
}

// run serves the site until ctx ends.
func run(ctx context.Context, listen, file string) error {
	secret, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	s := sessions{secret: bytes.TrimSpace(secret)}
	if len(s.secret) < 32 {
		return fmt.Errorf("%s: secret shorter than 32 bytes", file)
	}
	server, err := presence.New(presence.Config{Authenticator: s, Web: web.Files})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	h := &http.Server{Handler: routes(s, server)}
	listener = server.Harden(h, listener)
	log.Printf("site on http://%s", listener.Addr())
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(listener) }() // ends with h.Shutdown

	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// End the streams first. Then close the listener and wait for the other requests.
	return errors.Join(server.Shutdown(ctx), h.Shutdown(ctx))
}

// routes returns the routes of the site.
func routes(s sessions, server *presence.Server) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/presence/", http.StripPrefix("/presence", server))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(page)
	})
	// Reject requests that a page of another site sends (CSRF). presence has its own check.
	own := http.NewCrossOriginProtection()
	mux.Handle("POST /signin", own.Handler(http.HandlerFunc(s.signIn)))
	mux.Handle("POST /save", own.Handler(save(s, server)))
	return mux
}

// save returns the handler of an action of the site that the room sees at once.
func save(s sessions, server *presence.Server) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		user, err := s.Authenticate(r)
		if err != nil {
			http.Error(w, "sign in first", http.StatusUnauthorized)
			return
		}
		if _, err := server.Publish(r.Context(), room, "message", user.Name+" saved the document."); err != nil {
			log.Print(err)
			http.Error(w, "try again later", http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// sessions are the sign-ins of the site. A sign-in is a signed cookie, so that it survives a
// restart. Replace it by the sessions that your site has.
type sessions struct{ secret []byte }

// claims are the contents of the cookie.
type claims struct {
	Name string `json:"name"`
	jwt.RegisteredClaims
}

// signIn accepts any name, and gives each visitor a new id. Your sign-in checks a password.
func (s sessions) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	name := strings.TrimSpace(r.FormValue("name"))
	if name == "" || len(name) > 128 {
		http.Error(w, "a name of at most 128 bytes is required", http.StatusBadRequest)
		return
	}
	value, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{name, jwt.RegisteredClaims{
		Subject:   rand.Text(),
		ExpiresAt: jwt.NewNumericDate(time.Now().Add(signed)),
	}}).SignedString(s.secret)
	if err != nil {
		log.Print(err)
		http.Error(w, "try again later", http.StatusInternalServerError)
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookie, Value: value, Path: "/", MaxAge: int(signed.Seconds()),
		HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode,
	})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// Authenticate returns the user of the site's own cookie. presence calls it once for each request.
func (s sessions) Authenticate(r *http.Request) (presence.User, error) {
	c, err := r.Cookie(cookie)
	if err != nil {
		return presence.User{}, auth.ErrNoToken
	}
	var in claims
	if _, err := jwt.ParseWithClaims(c.Value, &in, func(*jwt.Token) (any, error) { return s.secret, nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired()); err != nil {
		return presence.User{}, auth.ErrBadToken
	}
	hash := sha256.Sum256([]byte(c.Value))
	return presence.User{
		ID:      in.Subject,
		Name:    in.Name,
		Join:    []string{room},
		Send:    []string{room},
		Expires: in.ExpiresAt.Time,
		Session: hex.EncodeToString(hash[:]), // protects the cookie from pages of other origins
	}, nil
}
