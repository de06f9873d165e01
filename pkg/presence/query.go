package presence

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"example.com/presence/pkg/presence/internal/input"
	"example.com/presence/pkg/presence/room"
)

// maxParameters limits the number of parameters in a query, because each one is compared with each
// name of the endpoint.
const maxParameters = 100

// parseQuery returns the query of the request. names are the parameters of the endpoint. It
// rejects:
//
//   - a repeated parameter, because net/url would silently use the first. The exception is
//     lastEventId, because reconnecting-eventsource appends it to a URL that may already contain
//     it.
//   - a misspelled parameter, such as room[], Room or rooms. It would be ignored, and the request
//     would go to the default room, lobby.
//
// Other parameters are ignored, because proxies and pages add their own.
func parseQuery(r *http.Request, names ...string) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, reject(http.StatusBadRequest, "malformed query")
	}
	if strings.Count(r.URL.RawQuery, "&") >= maxParameters {
		return nil, reject(http.StatusBadRequest, "too many query parameters (maximum %d)", maxParameters)
	}
	for given, values := range query {
		switch i := slices.IndexFunc(names, func(name string) bool { return resembles(given, name) }); {
		case slices.Contains(names, given):
			if len(values) > 1 && given != "lastEventId" {
				return nil, reject(http.StatusBadRequest, "repeated parameter %q (%d times, maximum 1)", given, len(values))
			}
		case i >= 0:
			return nil, reject(http.StatusBadRequest, "unknown parameter %.100q: did you mean %s?", given, names[i])
		}
	}
	return query, nil
}

// resembles reports whether given is a misspelling of name:
//
//	different case                        Room
//	punctuation, such as _ and [0]        room[0], _room
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
	// Remove the common prefix and the common suffix.
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

// parseUserID returns the id of a user, which need not exist. The error is ErrUserID.
func parseUserID(id string) (room.UserID, error) {
	if !input.IsUserID(id) {
		return "", ErrUserID
	}
	return room.UserID(id), nil
}

// maxPage and defaultPage are the maximum and the default page size, in members, rooms or bans. The
// maximum is also that of messages.
const maxPage, defaultPage = 1000, 100

// pageLimit returns the page size that the query requests, or the default.
func pageLimit(query url.Values, standard int) (int, error) {
	if query.Get("limit") == "" {
		return standard, nil
	}
	limit, err := strconv.Atoi(query.Get("limit"))
	if err != nil || limit < 1 || limit > maxPage {
		return 0, reject(http.StatusBadRequest, `invalid parameter "limit": must be 1 to %d`, maxPage)
	}
	return limit, nil
}

// lastEventID returns the event id from which the client resumes. The header takes precedence,
// because EventSource sets it when it reconnects. In the query, lastEventId takes precedence over
// last_event_id: libraries append lastEventId to the URL of the page, so it is newer.
func lastEventID(r *http.Request, query url.Values) string {
	newest := ""
	if all := query["lastEventId"]; len(all) > 0 {
		newest = all[len(all)-1]
	}
	return cmp.Or(r.Header.Get("Last-Event-ID"), newest, query.Get("last_event_id"))
}
