package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/presence/cmd/presence/internal/ledger"
	"example.com/presence/pkg/presence/auth"
)

// book writes the ledger of one room. Its clients and posters end with the test.
type book struct {
	t       *testing.T
	room    string
	ctx     context.Context
	running sync.WaitGroup
	scheme  string       // of the URLs of the nodes
	streams *http.Client // a connection for each stream
	posts   *http.Client
	pick    func() string // if set, returns the node for the next stream of a client
	retry   time.Duration // if set, the maximum time after which a client reconnects

	mu      sync.Mutex // guards the fields below
	records []ledger.Record
	secret  string            // of the tokens
	tokens  map[string]string // by user
}

func newBook(t *testing.T, room string) *book {
	ctx, cancel := context.WithCancel(context.Background())
	b := &book{t: t, room: room, ctx: ctx, scheme: "http", secret: secret, tokens: map[string]string{}}
	b.streams = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	b.posts = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	t.Cleanup(func() {
		cancel()
		b.running.Wait()
		b.posts.CloseIdleConnections()
		if t.Failed() && len(b.list()) > 0 {
			b.save()
		}
	})
	return b
}

// add adds a record with the current time.
func (b *book) add(r ledger.Record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r.At = time.Now()
	b.records = append(b.records, r)
}

// list returns the records so far.
func (b *book) list() []ledger.Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.records)
}

// check checks the ledger, and fails the test for each fault.
func (b *book) check() ledger.Report {
	b.t.Helper()
	report := ledger.Check(b.list())
	b.t.Logf("ledger of room %s: %v", b.room, report)
	for i, f := range report.Faults {
		if i == 20 {
			break
		}
		b.t.Errorf("room %s: %v", b.room, f)
	}
	return report
}

// save writes the ledger to a file, which go test keeps with -artifacts.
func (b *book) save() {
	file, err := os.Create(filepath.Join(b.t.ArtifactDir(), b.room+".jsonl"))
	if err != nil {
		b.t.Error(err)
		return
	}
	defer file.Close()
	if err := ledger.Write(file, b.list()); err != nil {
		b.t.Error(err)
	}
	b.t.Logf("ledger: %s", file.Name())
}

// request starts a request with the token of a user.
func (b *book) request(ctx context.Context, method, url, user, body string) (*http.Request, error) {
	token, err := b.token(user)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	return r, nil
}

// token returns the token of a user.
func (b *book) token(user string) (token string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if token = b.tokens[user]; token == "" {
		token, err = auth.Mint([]byte(b.secret), auth.Claims{Sub: user, Join: []string{"*"}, Send: []string{"*"}, Admin: user == "admin"})
		b.tokens[user] = token
	}
	return token, err
}

// use makes all further requests have tokens of a secret.
func (b *book) use(secret string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.secret = secret
	clear(b.tokens)
}

// bookClient is a client that reconnects and resumes like a browser, and records all that it
// receives.
type bookClient struct {
	book *book
	name string
	user string
	stop context.CancelFunc // ends the client
	done chan struct{}

	mu      sync.Mutex // guards the fields below
	addr    string     // of the node for the next stream
	end     context.CancelFunc
	held    string
	retry   time.Duration
	open    bool
	count   int
	members map[string]bool   // nil: not known
	left    map[string]string // reason of the last leave by user
	resets  int
}

// client starts a client, which connects to a node.
func (b *book) client(name, user, addr string) *bookClient {
	ctx, stop := context.WithCancel(b.ctx)
	c := &bookClient{book: b, name: name, user: user, stop: stop, done: make(chan struct{}), addr: addr, count: -1, left: map[string]string{}}
	b.running.Go(func() { // ends with ctx
		defer close(c.done)
		for ctx.Err() == nil {
			c.stream(ctx)
			c.mu.Lock()
			retry := c.retry
			c.mu.Unlock()
			if b.retry > 0 {
				retry = min(retry, b.retry)
			}
			select {
			case <-ctx.Done():
			case <-time.After(retry):
			}
		}
	})
	return c
}

// clients starts n clients at a node. Each has an own user.
func (b *book) clients(n int, prefix, addr string) (all []*bookClient) {
	for i := range n {
		name := fmt.Sprintf("%s-%d", prefix, i)
		all = append(all, b.client(name, name, addr))
	}
	return all
}

// close ends the client.
func (c *bookClient) close() {
	c.stop()
	<-c.done
}

// move makes the client use another node for its next stream, and ends its stream.
func (c *bookClient) move(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addr = addr
	if c.end != nil {
		c.end()
	}
}

// stream opens one stream and reads it up to its end.
func (c *bookClient) stream(ctx context.Context) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	c.mu.Lock()
	if c.book.pick != nil {
		c.addr = c.book.pick()
	}
	addr, held := c.addr, c.held
	c.end, c.retry = end, 500*time.Millisecond
	c.mu.Unlock()
	request, err := c.book.request(ctx, "GET", c.book.scheme+"://"+addr+"/events?room="+c.book.room, c.user, "")
	if err != nil {
		c.book.t.Error(err)
		return
	}
	if held != "" {
		request.Header.Set("Last-Event-ID", held)
	}
	began := time.Now()
	resp, err := c.book.streams.Do(request)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		if ctx.Err() == nil {
			c.book.t.Errorf("client %s at %s: got %s, want 200", c.name, addr, resp.Status)
		}
		return
	}
	c.book.add(ledger.Record{Kind: ledger.Opened, Client: c.name, User: c.user, Node: addr, ID: held, Began: began})
	c.setOpen(true)
	c.read(resp.Body)
	c.setOpen(false)
	c.book.add(ledger.Record{Kind: ledger.Closed, Client: c.name})
}

func (c *bookClient) setOpen(open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open, c.count, c.members = open, -1, nil
}

// read reads events.
func (c *bookClient) read(body io.Reader) {
	var event, id, data string
	for s := bufio.NewScanner(body); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ": ")
		switch name {
		case "":
			if event != "" {
				c.event(event, id, data)
			}
			event, id, data = "", "", ""
		case "event":
			event = value
		case "id":
			id = value
		case "data":
			data = value
		case "retry":
			ms, _ := strconv.Atoi(value)
			c.mu.Lock()
			c.retry = time.Duration(ms) * time.Millisecond
			c.mu.Unlock()
		}
	}
}

// event records an event.
func (c *bookClient) event(event, id, data string) {
	if event != "ping" {
		c.book.add(ledger.Record{Kind: ledger.Event, Client: c.name, Event: event, ID: id, Data: json.RawMessage(data)})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if id != "" {
		c.held = id
	}
	var d struct {
		ID, Reason string
		Members    []struct{ ID string }
		Complete   bool
	}
	switch event {
	case "user count":
		c.count, _ = strconv.Atoi(data)
		return
	case "reset":
		c.resets++
		return
	case "sync", "join", "leave":
		json.Unmarshal([]byte(data), &d)
	}
	switch {
	case event == "sync" && d.Complete:
		c.members = map[string]bool{}
		for _, m := range d.Members {
			c.members[m.ID] = true
		}
	case event == "sync":
		c.members = nil
	case event == "join" && c.members != nil:
		c.members[d.ID] = true
	case event == "leave":
		c.left[d.ID] = d.Reason
		delete(c.members, d.ID)
	}
}

// wrong describes how the view of the client differs from the truth; "": not at all. Without users,
// it compares only the count.
func (c *bookClient) wrong(count int, users []string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch members := slices.Sorted(maps.Keys(c.members)); {
	case !c.open:
		return c.name + " is not connected"
	case c.count != count:
		return fmt.Sprintf("%s has the count %d", c.name, c.count)
	case users != nil && !slices.Equal(members, users):
		return fmt.Sprintf("%s has the members %q", c.name, members)
	}
	return ""
}

// users returns the users of clients, sorted.
func users(clients []*bookClient) (users []string) {
	for _, c := range clients {
		users = append(users, c.user)
	}
	slices.Sort(users)
	return slices.Compact(users)
}

// limitFactor multiplies the limits of times. With the race detector, the nodes of several tests
// take more than the CPU of the machine.
const limitFactor = (raceFactor + 1) / 2

// awaitView waits until the clients have a view. It fails the test if that takes longer than within
// after since, and returns the time.
func (b *book) awaitView(what string, clients []*bookClient, count int, users []string, since time.Time, within time.Duration) time.Duration {
	b.t.Helper()
	var wrong []string
	right := poll(5*time.Millisecond, time.Until(since.Add(max(within, patience/2))), func() bool {
		wrong = nil
		for _, c := range clients {
			if text := c.wrong(count, users); text != "" {
				wrong = append(wrong, text)
			}
		}
		return len(wrong) == 0
	})
	took := time.Since(since)
	if !right {
		b.t.Fatalf("%s: after %v, want the count %d and the users %q:\n%s", what, took, count, users, strings.Join(wrong, "\n"))
	}
	b.t.Logf("%s: count %d at %d clients after %.2f s", what, count, len(clients), took.Seconds())
	if took > within*limitFactor {
		b.t.Errorf("%s: count %d after %v, want at most %v", what, count, took, within)
	}
	return took
}

// quiet waits until all clients have the true view of the clients themselves, and records it.
func (b *book) quiet(what string, clients []*bookClient, since time.Time, within time.Duration) {
	b.t.Helper()
	b.awaitView(what, clients, len(clients), users(clients), since, within)
	b.add(ledger.Record{Kind: ledger.Quiet, Count: len(clients), Members: users(clients)})
}

// posters sends messages with unique contents.
type posters struct {
	book   *book
	pick   func() string // returns the address of a node
	ctx    context.Context
	stop   context.CancelFunc
	paced  chan struct{} // closed when no more messages are sent
	flight sync.WaitGroup
}

// post sends messages at a rate per second until stopped. Each third message is sent again with the
// same idempotency key, if it was refused or unanswered.
func (b *book) post(prefix string, rate int, pick func() string) *posters {
	ctx, stop := context.WithCancel(b.ctx)
	p := &posters{book: b, pick: pick, ctx: ctx, stop: stop, paced: make(chan struct{})}
	b.running.Go(func() { // ends with ctx
		defer close(p.paced)
		slots := make(chan struct{}, 500)
		ticker := time.NewTicker(time.Second / time.Duration(rate))
		defer ticker.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				slots <- struct{}{}
			}
			p.flight.Go(func() { // ends with the timeout of its requests
				defer func() { <-slots }()
				for range 1 + n%3/2*5 {
					if p.once(fmt.Sprintf("%s-%d", prefix, n), n%8) {
						return
					}
					select { // a client pauses before it repeats a request
					case <-time.After(time.Second):
					case <-ctx.Done():
						return
					}
				}
			})
		}
	})
	b.t.Cleanup(p.end)
	return p
}

// once sends a message, and reports whether it was accepted.
func (p *posters) once(content string, user int) bool {
	return p.send(content, user) == http.StatusAccepted
}

// send sends a message. It returns the status, or 0 if there was no answer.
func (p *posters) send(content string, user int) (status int) {
	ctx, cancel := context.WithTimeout(p.book.ctx, 6*time.Second)
	defer cancel()
	r := ledger.Record{Kind: ledger.Posted, Client: fmt.Sprintf("poster-%d", user), Node: p.pick(), Content: content, Began: time.Now()}
	request, err := p.book.request(ctx, "POST", p.book.scheme+"://"+r.Node+"/messages?room="+p.book.room, r.Client, fmt.Sprintf(`{"data":%q,"id":%q}`, content, content))
	if err != nil {
		p.book.t.Error(err)
		return 0
	}
	if resp, err := p.book.posts.Do(request); err == nil {
		var answer struct{ ID string }
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil {
			r.Status = resp.StatusCode
			json.Unmarshal(text, &answer)
			r.ID = answer.ID
		}
	}
	p.book.add(r)
	return r.Status
}

// end stops the posters, and waits for their last answers.
func (p *posters) end() {
	p.stop()
	<-p.paced
	p.flight.Wait()
}

// anyOf returns a function that picks one of several addresses at random.
func anyOf(addrs ...string) func() string {
	return func() string { return addrs[rand.IntN(len(addrs))] }
}

// slower divides the rates of the load, because the race detector makes the nodes slow as well.
const slower = raceFactor
