package presence

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"example.com/presence/pkg/presence/room"
)

// parseQuery returns the request's query. Names are the parameters that the
// endpoint has. It refuses one that is given twice, of which net/url would take
// the first silently, and one that resembles a name: room[]=a, Room=a or rooms=a
// would otherwise be the lobby. Parameters that resemble none are ignored, as
// proxies and pages add their own.
func parseQuery(r *http.Request, names ...string) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the query is malformed")
	}
	for given, values := range query {
		switch i := slices.IndexFunc(names, func(name string) bool { return resembles(given, name) }); {
		case slices.Contains(names, given):
			if len(values) > 1 {
				return nil, refuse(http.StatusBadRequest, "%s is given %d times, and must be given once", given, len(values))
			}
		case i >= 0:
			return nil, refuse(http.StatusBadRequest, "unknown parameter %q: the parameter's name is %s", given, names[i])
		}
	}
	return query, nil
}

// resembles reports whether given is another spelling of name: in other
// capitals, with or without marks such as _ and [], or with one letter more,
// less, changed or swapped with its neighbour if name has at least four.
func resembles(given, name string) bool {
	if len(given) > 2*len(name)+4 {
		return false
	}
	given, name = letters(given), letters(name)
	if given == name {
		return true
	}
	if len(name) < 4 {
		return false
	}
	// What is left between the common start and the common end.
	for given != "" && name != "" && given[0] == name[0] {
		given, name = given[1:], name[1:]
	}
	for given != "" && name != "" && given[len(given)-1] == name[len(name)-1] {
		given, name = given[:len(given)-1], name[:len(name)-1]
	}
	swapped := len(given) == 2 && len(name) == 2 && given[0] == name[1] && given[1] == name[0]
	return len(given) <= 1 && len(name) <= 1 || swapped
}

// letters returns the letters and digits of s in lower case.
func letters(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, s)
}

func roomOf(query url.Values) (room.Name, error) {
	if !query.Has("room") {
		return room.Lobby, nil
	}
	return room.ParseName(query.Get("room"))
}

// maxPage and defaultPage are numbers of members, or rooms.
const maxPage, defaultPage = 1000, 100

// pageLimit reads how many entries a page may have.
func pageLimit(query url.Values) (int, error) {
	if query.Get("limit") == "" {
		return defaultPage, nil
	}
	limit, err := strconv.Atoi(query.Get("limit"))
	if err != nil || limit < 1 || limit > maxPage {
		return 0, refuse(http.StatusBadRequest, "limit is 1 to %d", maxPage)
	}
	return limit, nil
}

// lastEventID returns the id from which the client resumes: the header, which an
// EventSource sets itself, else the query. Of its two names lastEventId wins: the
// libraries that use it append it to the address that a page gave them, so it is
// the newer of the two.
func lastEventID(r *http.Request, query url.Values) string {
	return cmp.Or(r.Header.Get("Last-Event-ID"), query.Get("lastEventId"), query.Get("last_event_id"))
}
