package presence

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"
)

// routePath is the request's path below the point where the server is mounted.
func routePath(r *http.Request) string {
	if path := chi.RouteContext(r.Context()).RoutePath; path != "" {
		return path
	}
	return r.URL.Path
}

// mountPoint is the path below which this server answers, as the browser sees
// it: what comes before the path that was routed here.
func mountPoint(r *http.Request) string {
	path := r.URL.Path
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil {
		path = u.Path // http.StripPrefix leaves it as it came
	}
	mount, found := strings.CutSuffix(path, routePath(r))
	if !found || mount == "" {
		return "/"
	}
	return mount
}
