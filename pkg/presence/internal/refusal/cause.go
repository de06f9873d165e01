package refusal

// Cause is the reason why the server refused a request, a stream or a connection. The causes are a
// closed list, so they can be the values of a metric's label.
type Cause string

// The causes. The comment of each has the status of the response. A stream that is refused at a
// limit has the status 200 and contains only a goodbye, see Config.FullStatus of package presence.
const (
	Anonymous       Cause = "anonymous"        // 401: the request has no token
	Token           Cause = "token"            // 401: the token is invalid
	KeysUnavailable Cause = "keys_unavailable" // 503: the keys that verify tokens are not available
	Origin          Cause = "origin"           // 403: a page of another origin caused the request
	Host            Cause = "host"             // 421: the request names another host than the allowed ones
	RoomRight       Cause = "room_right"       // 403: the token lacks the right for the room
	Banned          Cause = "banned"           // 403, or goodbye removed: the user is banned from the room
	AdminRight      Cause = "admin_right"      // 403: the token is not an admin's
	BadRequest      Cause = "bad_request"      // 400
	NotFound        Cause = "not_found"        // 404
	Method          Cause = "method"           // 405
	Conflict        Cause = "conflict"         // 409: the user is not in the room
	TooLarge        Cause = "too_large"        // 413
	MediaType       Cause = "media_type"       // 415
	Rate            Cause = "rate"             // 429: the user's message rate limit
	Cost            Cause = "cost"             // 429 or stream: the user's cost rate
	HistoryRate     Cause = "history_rate"     // 429: the rate at which the user may add to a shared history
	RoomBacklog     Cause = "room_backlog"     // 503 or stream: the clients of the room are behind, and the limit of unsent events is reached
	Unsent          Cause = "unsent"           // stream: the user, or all users, have too many unsent snapshots or replays
	Connections     Cause = "connections"      // stream: the connection limit
	UserConnections Cause = "user_connections" // stream: the user's connection limit
	Rooms           Cause = "rooms"            // 503 or stream: the room limit
	UserRooms       Cause = "user_rooms"       // 503 or stream: the user's room limit
	OpenFiles       Cause = "open_files"       // stream: the open-file limit of the process
	RoomBusy        Cause = "room_busy"        // 503: the clients or the log of the room are too slow
	Bans            Cause = "bans"             // 503: the ban table is full
	IdempotencyKeys Cause = "idempotency_keys" // 503: the table of idempotency keys is full
	Backplane       Cause = "backplane"        // 503 or stream: no contact with the backplane
	Draining        Cause = "draining"         // 503 or stream: the server is shutting down
	Answers         Cause = "answers"          // 503 or reset: too many responses at the same time
	IdleConnections Cause = "idle_connections" // evicted: the limit of connections without a stream
	Address         Cause = "address"          // reset: the connection limit per client address
	ProxyHeader     Cause = "proxy_header"     // closed: the PROXY header of a connection is invalid
	Internal        Cause = "internal"         // 500: the log has an error
)

// Causes returns all causes.
func Causes() []Cause {
	return []Cause{
		Anonymous, Token, KeysUnavailable, Origin, Host, RoomRight, Banned, AdminRight, BadRequest, NotFound, Method, Conflict,
		TooLarge, MediaType, Rate, Cost, HistoryRate, RoomBacklog, Unsent, Connections, UserConnections, Rooms, UserRooms,
		OpenFiles, RoomBusy, Bans, IdempotencyKeys, Backplane, Draining, Answers, IdleConnections, Address, ProxyHeader, Internal,
	}
}

// quiet lists the causes without a log line. Scanners cause the first two all the time, a shutdown
// causes the third for each new client, and the last has a line of its own.
var quiet = map[Cause]bool{NotFound: true, Method: true, Draining: true, Internal: true}
