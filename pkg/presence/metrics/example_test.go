package metrics_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/metrics"
)

// A program registers the metrics of its server with its own registry.
func Example() {
	key, err := auth.Secret([]byte("a secret of thirty-two bytes ok!"))
	if err != nil {
		log.Fatal(err)
	}
	authenticator, err := auth.New(auth.Config{Keys: []auth.Key{key}})
	if err != nil {
		log.Fatal(err)
	}
	m := metrics.New()
	registry := prometheus.NewRegistry()
	registry.MustRegister(m)
	server, err := presence.New(presence.Config{
		Authenticator: authenticator,
		Observer:      m.Observer(),
		Metrics:       promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), // GET /metrics, for any client
	})
	if err != nil {
		log.Fatal(err)
	}
	m.Watch(server)
	defer server.Shutdown(context.Background())

	answer := httptest.NewRecorder()
	server.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	fmt.Println(answer.Code)
	// Output: 200
}
