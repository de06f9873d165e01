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

// maxParameters bounds the cost of a query: each parameter is compared with each name.
const maxParameters = 100

// parseQuery returns the request's query. names are the parameters of the endpoint. It refuses:
//
//   - a parameter that is given twice. net/url would silently use the first. The exception is
//     lastEventId, because reconnecting-eventsource appends it to a URL that may already have one.
//   - a parameter that resembles a name. room[]=a, Room=a or rooms=a would otherwise mean the
//     lobby.
//
// Other parameters are ignored, because proxies and pages add their own.
func parseQuery(r *http.Request, names ...string) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the query is malformed")
	}
	if strings.Count(r.URL.RawQuery, "&") >= maxParameters {
		return nil, refuse(http.StatusBadRequest, "the query has more than %d parameters", maxParameters)
	}
	for given, values := range query {
		switch i := slices.IndexFunc(names, func(name string) bool { return resembles(given, name) }); {
		case slices.Contains(names, given):
			if len(values) > 1 && given != "lastEventId" {
				return nil, refuse(http.StatusBadRequest, "parameter %s is given %d times, maximum 1", given, len(values))
			}
		case i >= 0:
			return nil, refuse(http.StatusBadRequest, "unknown parameter %.100q: did you mean %s?", given, names[i])
		}
	}
	return query, nil
}

// resembles reports whether given is a misspelling of name:
//
//	other capitals                        Room
//	other marks, such as _ and [0]        room[0], _room
//	id or name appended                   room_id, roomName
//	one letter added                      rooms    if name has at least three letters
//	two adjacent letters swapped          romo     if name has at least three letters
//	one letter missing                    rom      if name has at least four letters
//	one letter replaced, not the first    roam     if name has at least four letters
func resembles(given, name string) bool {
	given, _, _ = strings.Cut(given, "[")
	if len(given) > 4*len(name) {
		return false
	}
	g, n := letters(given), letters(name)
	if rest, longer := strings.CutPrefix(string(g), string(n)); longer && (rest == "" || rest == "id" || rest == "name") {
		return true
	}
	least, first := len(n), len(g) > 0 && g[0] == n[0]
	// Remove the common start and the common end.
	for len(g) > 0 && len(n) > 0 && g[0] == n[0] {
		g, n = g[1:], n[1:]
	}
	for len(g) > 0 && len(n) > 0 && g[len(g)-1] == n[len(n)-1] {
		g, n = g[:len(g)-1], n[:len(n)-1]
	}
	added := len(g) == 1 && len(n) == 0
	swapped := len(g) == 2 && len(n) == 2 && g[0] == n[1] && g[1] == n[0]
	return least >= 3 && (added || swapped) || least >= 4 && len(n) == 1 && (len(g) == 0 || len(g) == 1 && first)
}

// letters returns the letters and digits of s in lower case.
func letters(s string) []rune {
	return []rune(strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, s))
}

func roomOf(query url.Values) (room.Name, error) {
	if !query.Has("room") {
		return room.Lobby, nil
	}
	return room.ParseName(query.Get("room"))
}

// maxPage and defaultPage are page sizes, in members or rooms.
const maxPage, defaultPage = 1000, 100

// pageLimit returns the page size of the query.
func pageLimit(query url.Values) (int, error) {
	if query.Get("limit") == "" {
		return defaultPage, nil
	}
	limit, err := strconv.Atoi(query.Get("limit"))
	if err != nil || limit < 1 || limit > maxPage {
		return 0, refuse(http.StatusBadRequest, "limit must be 1 to %d", maxPage)
	}
	return limit, nil
}

// lastEventID returns the id from which the client resumes. The header wins, because an EventSource
// sets it itself. In the query lastEventId wins over last_event_id: libraries append lastEventId to
// the URL of the page, so it is the newer of the two.
func lastEventID(r *http.Request, query url.Values) string {
	newest := ""
	if all := query["lastEventId"]; len(all) > 0 {
		newest = all[len(all)-1]
	}
	return cmp.Or(r.Header.Get("Last-Event-ID"), newest, query.Get("last_event_id"))
}
