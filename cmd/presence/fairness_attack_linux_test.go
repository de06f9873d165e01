//go:build !race

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence/auth"
)

// asAttacker is the environment variable that makes this test binary run an attack. Its value is an
// attack in JSON. The process prints an attackReport when the attack ends, or when its standard
// input is closed.
const asAttacker = "PRESENCE_TEST_AS_ATTACKER"

func init() {
	order := os.Getenv(asAttacker)
	if order == "" {
		return
	}
	if err := runAttack([]byte(order), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "attack process:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// attack is the order to one process, which acts as one user, or as Accounts users.
type attack struct {
	Do       string // a key of attacks
	Addr     string
	User     string
	Accounts int // mixed: users
	Room     string
	Rooms    int     // rooms that the attack uses
	Rate     float64 // actions per second
	Count    int     // maximum of actions; 0: no limit
	Size     int     // of a message, in bytes
	Buffer   int     // receive buffer of a stream, in bytes; 0: the default
	Workers  int     // requests at the same time; 0: 8
	Time     time.Duration
	Seed     uint64
}

// attackReport has the results of an attack.
type attackReport struct {
	Accepted int         // requests with a status of 200 to 299, without a goodbye full
	Statuses map[int]int // requests by status; 0: no answer
	Full     int         // streams with goodbye full
	Bytes    int64       // bytes read
	Rooms    int         // rooms in which a stream or message was accepted
	Took     time.Duration
}

func (r attackReport) String() string {
	return fmt.Sprintf("%.0f accepted per second (%d), statuses %v, %d full, %d rooms, %.1f MB read",
		float64(r.Accepted)/max(1e-9, r.Took.Seconds()), r.Accepted, r.Statuses, r.Full, r.Rooms,
		float64(r.Bytes)/1e6)
}

// attackProcess is a process that runs an attack.
type attackProcess struct {
	t       testing.TB
	process *exec.Cmd
	in      io.Closer
	report  *json.Decoder
}

// startAttack starts an attack in its own process, which ends with the test. If command is given,
// it starts the process: "nice -n 19", for example.
func startAttack(t testing.TB, a attack, command ...string) *attackProcess {
	t.Helper()
	order, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	command = append(command, executable(t))
	p := &attackProcess{t: t, process: exec.Command(command[0], command[1:]...)}
	p.process.Env, p.process.Stderr = []string{asAttacker + "=" + string(order)}, os.Stderr
	in, err := p.process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in, p.report = in, json.NewDecoder(out)
	if err := p.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); p.process.Process.Kill(); p.process.Wait() })
	return p
}

// wait waits until the attack has ended by itself.
func (p *attackProcess) wait() (r attackReport) {
	p.t.Helper()
	if err := p.report.Decode(&r); err != nil {
		p.t.Fatal(err)
	}
	p.in.Close()
	return r
}

// stop ends the attack.
func (p *attackProcess) stop() attackReport {
	p.t.Helper()
	p.in.Close()
	return p.wait()
}

// attacker is the state of an attack in its process.
type attacker struct {
	attack
	ctx     context.Context
	stop    context.CancelFunc
	posts   *http.Client
	running sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	report attackReport
	rooms  map[string]bool
	conns  map[net.Conn]bool // open streams
	tokens map[string]string // by user
}

// attacks are the attacks by name.
var attacks = map[string]func(*attacker){
	"snapshots": func(a *attacker) { a.openUnread(a.User, a.Room) },
	"history":   func(a *attacker) { a.postToRooms(a.User, a.Room); a.stop() },
	"moderate":  func(a *attacker) { a.paced(a.Rate, a.Count, func(int) { a.post(a.User, a.Room) }) },
	"hold":      func(a *attacker) { a.openRooms(false) },
	"reopen":    func(a *attacker) { a.openRooms(true) },
	"posts":     func(a *attacker) { a.postRooms() },
	"unsent":    func(a *attacker) { a.keepUnsent(a.User, a.Room) },
	"hoard":     func(a *attacker) { a.hoard(a.User, a.Room) },
	"joins":     func(a *attacker) { a.joinOften(a.User, a.Room) },
	"states":    func(a *attacker) { a.putStates(a.User, a.Room) },
	"lists":     func(a *attacker) { a.listMembers(a.User, a.Room) },
	"mixed":     func(a *attacker) { a.mix() },
}

func runAttack(order []byte, in io.Reader, out io.Writer) error {
	debug.SetGCPercent(400)
	a := &attacker{rooms: map[string]bool{}, conns: map[net.Conn]bool{}}
	a.tokens = map[string]string{}
	a.report.Statuses = map[int]int{}
	if err := json.Unmarshal(order, &a.attack); err != nil {
		return err
	}
	do := attacks[a.Do]
	if do == nil {
		return fmt.Errorf("unknown attack: %q", a.Do)
	}
	a.Workers = cmp.Or(a.Workers, 8)
	a.posts = &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: a.Workers, MaxConnsPerHost: a.Workers,
	}}
	a.ctx, a.stop = context.WithTimeout(context.Background(), a.Time)
	defer a.stop()
	go func() { // ends with the process
		io.Copy(io.Discard, in)
		a.stop()
	}()
	began := time.Now()
	do(a)
	<-a.ctx.Done() // until then the streams stay open
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Took, a.report.Rooms = time.Since(began), len(a.rooms)
	return json.NewEncoder(out).Encode(a.report)
}

// paced runs do at a rate, until the attack ends. The rate is the load. Each do has its goroutine.
func (a *attacker) paced(rate float64, count int, do func(n int)) {
	began := time.Now()
	for n := 0; count == 0 || n < count; n++ {
		select {
		case <-a.ctx.Done():
			return
		case <-time.After(time.Until(began.Add(dueAt(n, rate)))):
		}
		a.running.Go(func() { do(n) })
	}
}

// busy runs do as often as possible, in Workers goroutines, until the attack ends.
func (a *attacker) busy(do func(n int)) {
	var workers sync.WaitGroup
	for worker := range a.Workers {
		workers.Go(func() {
			for n := worker; a.ctx.Err() == nil && (a.Count == 0 || n < a.Count); n += a.Workers {
				do(n)
			}
		})
	}
	workers.Wait()
}

// token returns the token of an attacking user.
func (a *attacker) token(user string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tokens[user] == "" {
		a.tokens[user] = anyRoom(user)
	}
	return a.tokens[user]
}

// anyRoom returns a token of a user that may join and send to all rooms.
func anyRoom(user string) string {
	token, err := auth.Mint([]byte(secret), auth.Claims{
		Sub: user, Name: user, Join: []string{"*"}, Send: []string{"*"},
	})
	if err != nil {
		panic(err)
	}
	return token
}

// ask sends a request of a user and counts its status. It returns the status; 0: no answer.
func (a *attacker) ask(method, path, user, body string) int {
	url := "http://" + a.Addr + path
	request, err := http.NewRequestWithContext(a.ctx, method, url, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	request.Header.Set("Authorization", "Bearer "+a.token(user))
	request.Header.Set("Content-Type", "application/json")
	resp, err := a.posts.Do(request)
	if err != nil {
		a.count(0, 0, "")
		a.pause()
		return 0
	}
	defer resp.Body.Close()
	n, _ := io.Copy(io.Discard, resp.Body)
	a.count(resp.StatusCode, n, request.URL.Query().Get("room"))
	return resp.StatusCode
}

// pause waits before a request that failed is repeated. Otherwise the attacker would keep a core
// busy, and not the server.
func (a *attacker) pause() {
	select {
	case <-a.ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
}

// count counts a request and its answer. The requests that the end of the attack cuts off do not
// count.
func (a *attacker) count(status int, bytes int64, room string) {
	if status == 0 && a.ctx.Err() != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Statuses[status]++
	a.report.Bytes += bytes
	if status/100 == 2 {
		a.report.Accepted++
		a.rooms[room] = true
	}
}

func (a *attacker) read(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Bytes += n
}

// post sends a message of Size bytes to a room.
func (a *attacker) post(user, room string) int {
	body := `{"data":"` + strings.Repeat("m", a.Size) + `"}`
	return a.ask("POST", "/messages?room="+room, user, body)
}

// open opens a stream, and returns it before any answer is read. It must be closed with drop; nil:
// no connection. buffer is the size of its receive buffer; 0: the default.
func (a *attacker) open(user, room string, buffer int) net.Conn {
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			if buffer > 0 {
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
			}
		})
	}}
	conn, err := dialer.DialContext(a.ctx, "tcp", a.Addr)
	if err == nil {
		_, err = io.WriteString(conn, streamRequest(room, a.token(user), ""))
	}
	if err != nil {
		a.count(0, 0, "")
		a.pause()
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conns[conn] = true
	return conn
}

func (a *attacker) drop(conn net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.conns, conn)
	conn.Close()
}

// streamRequest is the request for a stream, without chunks. A stream with an id resumes.
func streamRequest(room, token, id string) string {
	if id != "" {
		id = "Last-Event-ID: " + id + "\r\n"
	}
	return "GET /events?room=" + room + " HTTP/1.0\r\nHost: localhost\r\n" +
		"Accept: text/event-stream\r\nAuthorization: Bearer " + token + "\r\n" + id + "\r\n"
}

// answered reads the beginning of an answer to open, which shows a goodbye full, and counts it.
func (a *attacker) answered(conn net.Conn, room string) bool {
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	const full = `data: {"reason":"full"}`
	head, b := "", make([]byte, 4<<10)
	for begin := -1; begin < 0 || len(head) < begin+len(full); begin = strings.Index(head, "data: ") {
		n, err := conn.Read(b)
		head += string(b[:n])
		if err != nil {
			break
		}
	}
	status := 0
	fmt.Sscanf(head, "HTTP/1.1 %d", &status)
	if status == 0 {
		fmt.Sscanf(head, "HTTP/1.0 %d", &status)
	}
	if strings.Contains(head, full) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.report.Full++
		return false
	}
	a.count(status, int64(len(head)), room)
	return status == http.StatusOK
}

// openUnread opens streams in the rooms in turn, at the rate, and reads nothing from them.
func (a *attacker) openUnread(user, room string) {
	a.paced(a.Rate, a.Count, func(n int) {
		to := fmt.Sprintf("%s-%d", room, n%a.Rooms)
		if a.open(user, to, 0) != nil {
			a.count(http.StatusOK, 0, to)
		}
	})
}

// postToRooms sends Count messages to the rooms in turn (without Rooms: to the one room), at the
// rate that the server allows. One that is refused is sent again.
func (a *attacker) postToRooms(user, room string) {
	for n := 0; a.ctx.Err() == nil && (a.Count == 0 || n < a.Count); {
		to := room
		if a.Rooms > 0 {
			to = fmt.Sprintf("%s-%d", room, n%a.Rooms)
		}
		status := a.post(user, to)
		if status == http.StatusAccepted {
			n++
		} else {
			a.pause()
		}
	}
}

// openRooms opens a stream in as many rooms as possible. It keeps them, or with again closes each
// at once.
func (a *attacker) openRooms(again bool) {
	a.busy(func(n int) {
		room := fmt.Sprintf("%s-%d", a.Room, n)
		conn := a.open(a.User, room, 4096)
		if conn == nil {
			return
		}
		if !a.answered(conn, room) || again {
			a.drop(conn)
		}
	})
}

// postRooms sends each message to another room, as fast as the server allows.
func (a *attacker) postRooms() {
	a.busy(func(n int) { a.post(a.User, fmt.Sprintf("%s-%d", a.Room, n)) })
}

// keepUnsent has one stream in each of its rooms, reads Rate bytes per second from it, and sends
// messages to the rooms in turn, as fast as the server allows.
func (a *attacker) keepUnsent(user, room string) {
	for n := range a.Rooms {
		a.readSlowly(user, fmt.Sprintf("%s-%d", room, n))
	}
	a.postToRooms(user, room)
	a.running.Wait()
}

// readSlowly opens a stream and reads Rate bytes per second from it.
func (a *attacker) readSlowly(user, room string) {
	conn := a.open(user, room, a.Buffer)
	if conn == nil {
		return
	}
	a.running.Go(func() { // ends with the attack
		paced := &pacedReader{ctx: a.ctx, conn: conn, rate: int(a.Rate)}
		read, _ := io.Copy(io.Discard, paced)
		a.read(read)
		a.drop(conn)
	})
}

// hoard opens a stream in one room after the other, and sends Count messages to each: not so many
// that the server disconnects a client that reads hardly anything.
func (a *attacker) hoard(user, room string) {
	for n := 0; a.ctx.Err() == nil; n++ {
		to := fmt.Sprintf("%s-%d", room, n)
		a.readSlowly(user, to)
		a.postToRooms(user, to)
	}
	a.running.Wait()
}

// joinOften joins and leaves as often as possible. It reads the first 100 KB of each stream.
func (a *attacker) joinOften(user, room string) {
	a.busy(func(int) { a.joinOnce(user, room) })
}

func (a *attacker) joinOnce(user, room string) {
	conn := a.open(user, room, 0)
	if conn == nil {
		return
	}
	defer a.drop(conn)
	if a.answered(conn, room) {
		n, _ := io.CopyN(io.Discard, conn, 100<<10)
		a.read(n)
	}
}

// putStates has a stream in the room, and replaces its state as often as possible.
func (a *attacker) putStates(user, room string) {
	conn := a.open(user, room, 0)
	if conn == nil || !a.answered(conn, room) {
		return
	}
	a.running.Go(func() { // ends with the attack
		conn.SetReadDeadline(time.Now().Add(a.Time))
		io.Copy(io.Discard, conn)
	})
	a.busy(func(n int) { a.putState(user, room, n) })
}

func (a *attacker) putState(user, room string, n int) {
	body := fmt.Sprintf(`{"n":%d,"text":"%s"}`, n, strings.Repeat("s", 900))
	a.ask("PUT", "/state?room="+room, user, body)
}

// listMembers asks for the members as often as possible.
func (a *attacker) listMembers(user, room string) {
	a.busy(func(int) { a.ask("GET", "/presence?limit=1000&room="+room, user, "") })
}

// mix runs the attacks of many accounts.
func (a *attacker) mix() {
	for i := range a.Accounts {
		a.running.Go(func() { a.account(i) })
	}
	a.running.Wait()
}

// accountStreams is the maximum of streams that an account keeps open without reading, and of those
// that it reads slowly.
const accountStreams = 4

// account does something of each attack at random, about twice per second. The large
// messages go to its own rooms, because no client with a slow line could read them.
func (a *attacker) account(i int) {
	random, user := rand.New(rand.NewPCG(a.Seed, uint64(i))), fmt.Sprintf("account-%d", i)
	own := func(n int) string { return fmt.Sprintf("%s-room-%d", user, n) }
	var unread []net.Conn
	keep := func(conn net.Conn) {
		if conn == nil {
			return
		}
		if unread = append(unread, conn); len(unread) > accountStreams {
			a.drop(unread[0])
			unread = unread[1:]
		}
	}
	a.readSlowly(user, own(0))
	slow := 1
	for n := 1; a.ctx.Err() == nil; n++ {
		switch random.IntN(7) {
		case 0:
			keep(a.open(user, a.Room, 4096))
		case 1:
			a.post(user, own(n%2))
		case 2:
			keep(a.open(user, own(n), 4096))
		case 3:
			if slow++; slow <= accountStreams {
				a.readSlowly(user, own(n))
			}
			for range 4 {
				a.post(user, own(n))
			}
		case 4:
			a.joinOnce(user, a.Room)
		case 5:
			a.putState(user, own(0), n)
		case 6:
			a.ask("GET", "/presence?limit=1000&room="+a.Room, user, "")
		}
		select {
		case <-a.ctx.Done():
		case <-time.After(time.Duration(random.Int64N(int64(time.Second)))):
		}
	}
}

// pacedReader reads a number of bytes per second, until ctx ends.
type pacedReader struct {
	ctx  context.Context
	conn net.Conn
	rate int // 0: as fast as they come
	next time.Time
}

// Read reads at most a twentieth of the rate in each twentieth of a second, or 1 KiB if that is
// more. It catches up if it was late by less than a fifth of a second.
func (r *pacedReader) Read(b []byte) (int, error) {
	if r.rate > 0 {
		select {
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		case <-time.After(time.Until(r.next)):
		}
		b = b[:min(len(b), max(r.rate/20, 1<<10))]
		if late := time.Now().Add(-time.Second / 5); r.next.Before(late) {
			r.next = late
		}
		r.next = r.next.Add(time.Second * time.Duration(len(b)) / time.Duration(r.rate))
	}
	for {
		r.conn.SetReadDeadline(time.Now().Add(time.Second))
		n, err := r.conn.Read(b)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || r.ctx.Err() != nil {
			return n, err
		}
	}
}
