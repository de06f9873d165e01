package presence_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence"
)

var modelSeed = flag.Uint64("model.seed", 0, "run TestModel with this seed only")

// Promises 1, 2, 3, 6 and 7: after random steps, the server, the clients and a simple model agree.
// The test runs 100,000 steps (12,000 with -short, 40,000 with the race detector, and 500,000 in
// make test-long).
//
// A step is a join, a close, a reload, a removal, a state change, a message, a renewal, or a wait
// in which tokens and grace periods expire. Most steps happen within a flush interval. So,
// before the interval ends, clients are admitted immediately, other clients leave, and the room
// crosses the member limit. Whenever the server is idle, the test compares the model, the server,
// and the state that each client has derived from its events.
//
//	go test -run TestModel -v ./pkg/presence                      # prints its seeds
//	go test -run TestModel -model.seed 123 ./pkg/presence         # repeats a run
func TestModel(t *testing.T) {
	runs, steps := sized(4, modelRuns, 50), sized(3_000, 10_000, 10_000)
	for range runs {
		seed := rand.Uint64()
		if *modelSeed != 0 {
			seed = *modelSeed
		}
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d", seed)
			rnd := rand.New(rand.NewPCG(seed, 0))
			config := presence.Config{Linger: modelLinger, MemberLimit: modelLimit, History: modelHistory, HistoryAge: time.Hour,
				Count:    []presence.Count{presence.CountConnections, presence.CountConnections, presence.CountUsers}[rnd.IntN(3)],
				Coalesce: []time.Duration{50 * time.Millisecond, 750 * time.Millisecond}[rnd.IntN(2)]}
			inBubble(t, config, func(t *testing.T, b *bubble) {
				m := &model{t: t, b: b, count: config.Count, rnd: rnd, rooms: map[string]*modelRoom{}}
				for _, name := range []string{"a", "b"} {
					m.rooms[name] = &modelRoom{users: map[string]*modelUser{}, banned: map[string]time.Time{}, counts: []int{0}}
				}
				for m.step = range steps {
					m.act()
					if t.Failed() {
						t.Fatalf("failed at step %d; to repeat the run: -model.seed %d", m.step, seed)
					}
				}
				if m.comparisons < steps/100 {
					t.Errorf("got %d comparisons, want at least %d", m.comparisons, steps/100)
				}
			})
		})
		if *modelSeed != 0 {
			break
		}
	}
}

const (
	modelLinger  = 5 * time.Second
	modelLimit   = 10
	modelHistory = 8
	modelUsers   = 18 // above and below the limit
)

// model is the expected state of the server.
type model struct {
	t           *testing.T
	b           *bubble
	count       presence.Count
	rnd         *rand.Rand
	step        int
	comparisons int
	rooms       map[string]*modelRoom
	clients     []*modelClient
}

type modelRoom struct {
	users    map[string]*modelUser
	banned   map[string]time.Time // end of the ban
	left     map[string]bool      // id and reason of all users that have left since the last comparison
	messages int
	counts   []int // every user count that the room has had, in order
}

type modelUser struct {
	since       time.Time
	info        string
	connections int
	until       time.Time // end of its grace period, if it has no connections
	reason      string    // why its last connection ended
}

// modelClient is a client whose state is derived only from its events.
type modelClient struct {
	*clientStream
	room, user string
	expires    time.Time // zero: never
	sid        string

	lastID    string
	seq       int               // sequence number of the last message
	synced    bool              // has received a sync
	complete  bool              // its sync had all members
	members   map[string]string // id → info
	count     int
	counted   int    // lowest possible index of its last count in modelRoom.counts
	goodbye   string // the reason of its goodbye
	forgotten bool   // the model has removed it
}

func (m *model) act() {
	m.t.Helper()
	user, room := fmt.Sprint("u", m.rnd.IntN(modelUsers)), "ab"[m.rnd.IntN(2):][:1]
	switch n := m.rnd.IntN(100); {
	case n < 27:
		m.join(room, user, "", 0)
	case n < 46:
		m.close(m.pick())
	case n < 58: // a reload that resumes from the last id
		if c := m.pick(); c != nil {
			m.close(c)
			m.read(c)
			m.join(c.room, c.user, c.lastID, c.seq)
		}
	case n < 62:
		m.kick(room, user)
	case n < 70:
		m.state(room, user)
	case n < 80:
		m.post(room, user)
	case n < 83:
		m.renew(user)
	case n < 95:
		m.sleep(time.Duration(m.rnd.Int64N(int64(900 * time.Millisecond))))
	case n < 98:
		m.sleep(time.Duration(m.rnd.Int64N(int64(12 * time.Second))))
	default:
		for m.sleep(time.Second) {
		}
		m.compare()
	}
}

// pick returns a random open connection, or nil if there is none.
func (m *model) pick() *modelClient {
	if len(m.clients) == 0 {
		return nil
	}
	return m.clients[m.rnd.IntN(len(m.clients))]
}

func (m *model) join(room, user, lastID string, seq int) {
	u := testUser(user)
	u.Info = m.info()
	c := &modelClient{room: room, user: user, lastID: lastID, seq: seq}
	if m.rnd.IntN(3) == 0 {
		c.expires = time.Now().Add(time.Duration(1 + m.rnd.Int64N(int64(time.Minute))))
		u.Expires = c.expires
	}
	if m.rnd.IntN(2) == 0 {
		c.sid = "s"
		u.SID = c.sid
	}
	c.clientStream = m.b.stream("/events?room="+room, lastID, u)
	r := m.rooms[room]
	if time.Now().Before(r.banned[user]) {
		if c.status != http.StatusForbidden {
			m.t.Errorf("GET /events of %s in %s, banned until %v: got %d, want 403", user, room, r.banned[user], c.status)
		}
		return
	}
	if c.status != http.StatusOK {
		m.t.Errorf("GET /events of %s in %s: got %d, want 200", user, room, c.status)
		return
	}
	if r.users[user] == nil {
		r.users[user] = &modelUser{since: time.Now().UTC().Truncate(time.Millisecond), info: string(u.Info)}
	}
	r.users[user].connections++
	m.counts(r)
	c.counted = len(r.counts) - 1
	m.clients = append(m.clients, c)
}

// info returns a short value for half of the members. For the other half, the value is so long that
// four of them make the snapshot too large to be sent immediately.
func (m *model) info() json.RawMessage {
	long := strings.Repeat("x", 990*m.rnd.IntN(2))
	return json.RawMessage(fmt.Sprintf(`{"step":%d,"text":"%s"}`, m.step, long))
}

func (m *model) close(c *modelClient) {
	if c != nil {
		c.clientStream.close()
		m.remove(c, "closed", time.Now())
	}
}

// remove removes a connection from the model.
func (m *model) remove(c *modelClient, reason string, at time.Time) {
	c.forgotten = true
	m.clients = slices.DeleteFunc(m.clients, func(other *modelClient) bool { return other == c })
	if u := m.rooms[c.room].users[c.user]; u != nil {
		if u.connections--; u.connections == 0 {
			u.until, u.reason = at.Add(modelLinger), reason
		}
	}
	m.counts(m.rooms[c.room])
}

// counts appends the room's user count if it has changed.
func (m *model) counts(r *modelRoom) {
	n := len(r.users)
	if m.count == presence.CountConnections {
		n = r.connections()
	}
	if n != r.counts[len(r.counts)-1] {
		r.counts = append(r.counts, n)
	}
}

func (r *modelRoom) connections() (n int) {
	for _, u := range r.users {
		n += u.connections
	}
	return n
}

func (m *model) leaves(room, user, reason string) {
	r := m.rooms[room]
	delete(r.users, user)
	m.counts(r)
	if r.left == nil {
		r.left = map[string]bool{}
	}
	r.left[user+" "+reason] = true
}

func (m *model) kick(room, user string) {
	r := m.rooms[room]
	ban := time.Second + time.Duration(m.rnd.Int64N(int64(9*time.Second)))
	err := m.b.Kick(m.t.Context(), room, user, ban)
	if there := r.users[user] != nil; there != (err == nil) {
		m.t.Errorf("Kick %s from %s: got %v, want no error: %v", user, room, err, there)
	}
	if err != nil {
		return
	}
	synctest.Wait()
	r.banned[user] = time.Now().Add(ban)
	m.leaves(room, user, "removed")
	for _, c := range slices.Clone(m.clients) {
		if c.room != room || c.user != user {
			continue
		}
		m.remove(c, "removed", time.Now())
		m.read(c)
		if c.goodbye != "removed" || !c.ended() {
			m.t.Errorf("%s, removed from %s: got goodbye %q, ended %v; want removed", user, room, c.goodbye, c.ended())
		}
	}
}

func (m *model) state(room, user string) {
	u := m.rooms[room].users[user]
	info := string(m.info())
	answer := m.b.ask("PUT", "/state?room="+room, info, testUser(user))
	want := http.StatusNoContent
	switch {
	case time.Now().Before(m.rooms[room].banned[user]):
		want = http.StatusForbidden
	case u == nil:
		want = http.StatusConflict
	default:
		u.info = info
	}
	if answer.Code != want {
		m.t.Errorf("PUT /state of %s in %s: got %d, want %d", user, room, answer.Code, want)
	}
}

func (m *model) post(room, user string) {
	r := m.rooms[room]
	if time.Now().Before(r.banned[user]) {
		return
	}
	r.messages++
	if id := m.b.post("/messages?room="+room, `{"data":1}`, testUser(user)); !strings.HasSuffix(id, fmt.Sprint("-", r.messages)) {
		m.t.Errorf("message in %s: got id %s, want sequence number %d", room, id, r.messages)
	}
}

// renew signs the user in with a token for room a only.
func (m *model) renew(user string) {
	u := testUser(user)
	u.Join = []string{"a"}
	if m.rnd.IntN(2) == 0 {
		u.SID = "s"
	}
	u.Expires = time.Now().Add(time.Duration(1 + m.rnd.Int64N(int64(time.Minute))))
	if answer := m.b.ask("POST", "/session", `{"token":"t"}`, u); answer.Code != http.StatusNoContent {
		m.t.Errorf("POST /session: got %d %s, want 204", answer.Code, answer.Body)
	}
	for _, c := range m.clients {
		if c.user == user && c.room == "a" && c.sid == u.SID && !c.expires.IsZero() && u.Expires.After(c.expires) {
			c.expires = u.Expires
		}
	}
}

// sleep waits for d, and then applies to the model everything that expired meanwhile, in order. It
// reports whether anything expired.
func (m *model) sleep(d time.Duration) (any bool) {
	time.Sleep(d)
	synctest.Wait()
	now := time.Now()
	for {
		var next func()
		var when time.Time
		for _, c := range m.clients {
			if !c.expires.IsZero() && !c.expires.After(now) && (next == nil || c.expires.Before(when)) {
				when, next = c.expires, func() {
					m.remove(c, "expired", c.expires)
					m.read(c)
					if c.goodbye != "expired" || !c.ended() {
						m.t.Errorf("%s in %s, token expired: got goodbye %q, ended %v; want expired", c.user, c.room, c.goodbye, c.ended())
					}
				}
			}
		}
		for name, r := range m.rooms {
			for id, u := range r.users {
				if u.connections == 0 && !u.until.After(now) && (next == nil || u.until.Before(when)) {
					when, next = u.until, func() { m.leaves(name, id, u.reason) }
				}
			}
		}
		if next == nil {
			return any
		}
		next()
		any = true
	}
}

// read applies the client's new events to its state.
func (m *model) read(c *modelClient) {
	m.t.Helper()
	for _, e := range c.take() {
		if c.goodbye != "" {
			m.t.Errorf("%s after its goodbye: got %+v, want no event", c.user, e)
		}
		if e.id != "" {
			c.lastID = e.id
		}
		seq, _ := strconv.Atoi(e.id[strings.Index(e.id, "-")+1:])
		var data struct {
			ID, Reason string
			Info       json.RawMessage
			Complete   bool
			Members    []struct {
				ID   string
				Info json.RawMessage
			}
		}
		if e.name != "user count" && e.data != "" {
			if err := json.Unmarshal([]byte(e.data), &data); err != nil {
				m.t.Errorf("event %+v: got %v, want JSON", e, err)
			}
		}
		if e.id != "" && e.name != "message" && seq != c.seq && e.name != "reset" && (e.name != "sync" || c.lastID != "" && c.synced) {
			m.t.Errorf("%s in %s: got %q with id %s, want sequence number %d", c.user, c.room, e.name, e.id, c.seq)
		}
		switch e.name {
		case "reset":
			c.seq = seq
		case "sync":
			if !c.synced && c.seq != seq && c.seq != 0 {
				m.t.Errorf("%s in %s: got sync with id %s, want sequence number %d", c.user, c.room, e.id, c.seq)
			}
			c.synced, c.seq, c.complete, c.members = true, seq, data.Complete, map[string]string{}
			for _, member := range data.Members {
				c.members[member.ID] = string(member.Info)
			}
			if _, there := c.members[c.user]; !c.forgotten && c.complete && !there {
				m.t.Errorf("%s: got sync %s, want itself in it", c.user, e.data)
			}
		case "message":
			if seq != c.seq+1 {
				m.t.Errorf("%s in %s: got message %s, want sequence number %d", c.user, c.room, e.id, c.seq+1)
			}
			c.seq = seq
		case "user count":
			n, err := strconv.Atoi(e.data)
			counts := m.rooms[c.room].counts
			newer := slices.Index(counts[c.counted:], n)
			if err != nil || newer < 0 {
				m.t.Errorf("%s in %s: got user count %s, want one of %v, the counts since its last one", c.user, c.room, e.data, counts[c.counted:])
			}
			c.count, c.counted = n, c.counted+max(0, newer)
		case "join", "leave", "update":
			_, there := c.members[data.ID]
			if !c.synced || !c.complete || there == (e.name == "join") {
				m.t.Errorf("%s in %s: got %s %s, want a change of its members %v, complete %v", c.user, c.room, e.name, e.data, c.members, c.complete)
			}
			c.members[data.ID] = string(data.Info)
			if e.name == "leave" {
				delete(c.members, data.ID)
				if !m.rooms[c.room].left[data.ID+" "+data.Reason] {
					m.t.Errorf("%s in %s: got leave %s, want one of %v", c.user, c.room, e.data, m.rooms[c.room].left)
				}
			}
		case "goodbye":
			c.goodbye = data.Reason
		}
	}
}

// compare compares the model, the server and the clients. Before the call, the test must have
// waited for a second without a step.
func (m *model) compare() {
	m.comparisons++
	counts, err := m.b.Rooms(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	for name, r := range m.rooms {
		total, count := r.connections(), r.counts[len(r.counts)-1]
		members, err := m.b.Members(m.t.Context(), name)
		if err != nil {
			m.t.Fatal(err)
		}
		var got, want []string
		for _, u := range members {
			got = append(got, fmt.Sprint(u.ID, u.Connections, u.Since, string(u.Info)))
		}
		for _, id := range slices.Sorted(maps.Keys(r.users)) {
			u := r.users[id]
			want = append(want, fmt.Sprint(id, u.connections, u.since, u.info))
		}
		if !slices.Equal(got, want) {
			m.t.Errorf("Members of %s: got\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		at := slices.IndexFunc(counts, func(c presence.RoomCount) bool { return c.Room == name })
		if at < 0 && len(r.users) > 0 || at >= 0 && (counts[at].Connections != total || counts[at].Users != len(r.users)) {
			m.t.Errorf("Rooms: got %+v, want %s with %d connections of %d users", counts, name, total, len(r.users))
		}
		all := -1 // 1: the clients have all members, 0: they have none
		for _, c := range m.clients {
			if c.room != name {
				continue
			}
			m.read(c)
			if c.ended() || !c.synced || c.count != count || c.seq != r.messages {
				m.t.Errorf("%s in %s: got ended %v, synced %v, user count %d, message %d; want false, true, %d, %d", c.user, name, c.ended(), c.synced, c.count, c.seq, count, r.messages)
			}
			if complete := map[bool]int{true: 1}[c.complete]; all >= 0 && complete != all {
				m.t.Errorf("%s in %s: got members: %v, want as the other clients", c.user, name, c.complete)
			} else {
				all = complete
			}
			if c.complete && len(r.users) > modelLimit {
				m.t.Errorf("%s in %s: got %d members, want none above the limit of %d", c.user, name, len(r.users), modelLimit)
			}
			if !c.complete {
				continue
			}
			if len(c.members) != len(r.users) {
				m.t.Errorf("%s in %s: got members %v, want %d", c.user, name, c.members, len(r.users))
			}
			for id, info := range c.members {
				if u := r.users[id]; u == nil || u.info != info {
					m.t.Errorf("%s in %s: got member %s with info %s, want %+v", c.user, name, id, info, u)
				}
			}
		}
		r.left = nil
		for user, until := range r.banned {
			if !time.Now().Before(until) {
				delete(r.banned, user)
			}
		}
	}
}
