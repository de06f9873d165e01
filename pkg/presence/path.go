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

// mountPoint returns the path under which the server is mounted, as the browser sees it. It is the
// part of the request's path before routePath.
func mountPoint(r *http.Request) string {
	path := r.URL.Path
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil {
		path = u.Path // http.StripPrefix changes only r.URL
	}
	mount, found := strings.CutSuffix(path, routePath(r))
	if !found || mount == "" {
		return "/"
	}
	return mount
}
