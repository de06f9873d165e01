package presence

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"
)

// routePath returns the request's path below the mount point.
func routePath(r *http.Request) string {
	if path := chi.RouteContext(r.Context()).RoutePath; path != "" {
		return path
	}
	return r.URL.Path
}

// mountPoint returns the path below which this server answers, as the browser sees it: the part
// before routePath.
func mountPoint(r *http.Request) string {
	path := r.URL.Path
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil {
		path = u.Path // http.StripPrefix does not change it
	}
	mount, found := strings.CutSuffix(path, routePath(r))
	if !found || mount == "" {
		return "/"
	}
	return mount
}
