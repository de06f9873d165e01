package metrics_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/metrics"
	"example.com/presence/pkg/presence/room"
)

// movedBy has, for each metric, the test that changes it.
var movedBy = map[string]func(*testing.T){
	"presence_connections":                  TestStreams,
	"presence_users":                        TestStreams,
	"presence_rooms":                        TestStreams,
	"presence_joins_total":                  TestStreams,
	"presence_leaves_total":                 TestEnds,
	"presence_reloads_absorbed_total":       TestReload,
	"presence_streams_opened_total":         TestStreams,
	"presence_streams_ended_total":          TestEnds,
	"presence_counts_total":                 TestCounts,
	"presence_counts_coalesced_total":       TestCounts,
	"presence_snapshots_total":              TestStreams,
	"presence_join_to_count_seconds":        TestStreams,
	"presence_loop_pass_seconds":            TestStreams,
	"presence_messages_total":               TestMessages,
	"presence_messages_accepted_total":      TestCluster,
	"presence_deliveries_total":             TestMessages,
	"presence_sent_bytes_total":             TestMessages,
	"presence_idempotency_keys":             TestMessages,
	"presence_history_bytes":                TestMessages,
	"presence_replays_total":                TestResume,
	"presence_replayed_messages_total":      TestResume,
	"presence_resets_total":                 TestResume,
	"presence_history_evictions_total":      TestLimits,
	"presence_history_bytes_limit":          TestLimits,
	"presence_rooms_evicted_total":          TestLimits,
	"presence_rooms_limit":                  TestLimits,
	"presence_connections_limit":            TestLimits,
	"presence_idle_connections_limit":       TestLimits,
	"presence_idle_connections":             TestIdleConnections,
	"presence_accept_failures_total":        TestAcceptFailures,
	"presence_bans":                         TestEnds,
	"presence_draining":                     TestDraining,
	"presence_unsent_snapshots":             TestUnsentSnapshots,
	"presence_unsent_snapshot_bytes":        TestUnsentSnapshots,
	"presence_unsent_event_bytes":           TestSlowConsumer,
	"presence_unsent_event_bytes_limit":     TestLimits,
	"presence_unsent_replays":               TestUnsentReplays,
	"presence_unsent_replay_bytes":          TestUnsentReplays,
	"presence_io_uring":                     TestIOUring,
	"presence_backlogged_connections":       TestSlowConsumer,
	"presence_backlog_bytes":                TestSlowConsumer,
	"presence_hook_queue_bytes":             TestHookSlow,
	"presence_hook_calls_dropped_total":     TestHookSlow,
	"presence_refusals_total":               TestRefusals,
	"presence_auth_failures_total":          TestAuthFailures,
	"presence_peers":                        TestCluster,
	"presence_backplane_up":                 TestCluster,
	"presence_backplane_round_trip_seconds": TestCluster,
}

// Each metric has a test that changes it.
func TestEachMetricHasATest(t *testing.T) {
	if got, want := names(metrics.New()), keys(movedBy); !maps.Equal(got, want) {
		for name := range got {
			if !want[name] {
				t.Errorf("%s: no test in movedBy", name)
			}
		}
		for name := range want {
			if !got[name] {
				t.Errorf("%s: no such metric", name)
			}
		}
	}
}

func TestStreams(t *testing.T) {
	t.Parallel()
	s := open(t, presence.Config{Linger: -1})
	s.want("connections", 0, "users", 0, "rooms", 0, "joins_total", 0, "streams_opened_total", 0, "snapshots_total", 0,
		"join_to_count_seconds_count", 0)
	first := s.stream("/events?room=a", user(t, "alice"))
	s.stream("/events?room=a", user(t, "alice"))
	s.stream("/events?room=a", user(t, "bob"))
	s.stream("/events?room=b", user(t, "carol"))
	s.want("connections", 4, "users", 3, "rooms", 2, "joins_total", 3, "streams_opened_total", 4,
		"join_to_count_seconds_count", bound(2), "loop_pass_seconds_count", bound(4), "snapshots_total", bound(2))
	first()
	s.want("connections", 3, "users", 3, "rooms", 2, "joins_total", 3, "streams_opened_total", 4, `streams_ended_total{reason="closed"}`, 1,
		"reloads_absorbed_total", 0)
}

// The metric is 1 unless io_uring is off or the kernel refuses it, which package stream tests.
func TestIOUring(t *testing.T) {
	t.Parallel()
	off := open(t, presence.Config{DisableIOUring: true})
	off.want("io_uring", 0)
	if err := off.Stats().Streams.IOUringError; err != nil {
		t.Errorf("io_uring is off: got the error %v, want none", err)
	}
	auto := open(t, presence.Config{})
	if auto.Stats().Streams.IOUringError == nil {
		auto.want("io_uring", 1)
	} else {
		auto.want("io_uring", 0)
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	s := open(t, presence.Config{Linger: 5 * time.Minute})
	s.stream("/events", user(t, "alice"))()
	s.want("connections", 0, "users", 0, "reloads_absorbed_total", 0)
	s.stream("/events", user(t, "alice"))
	s.want("joins_total", 1, "reloads_absorbed_total", 1, `leaves_total{reason="closed"}`, 0)
}

// Each change of the user count of a room is published, or coalesced.
func TestCounts(t *testing.T) {
	t.Parallel()
	s := open(t, presence.Config{Coalesce: 750 * time.Millisecond})
	for i := range 20 {
		s.stream("/events", user(t, fmt.Sprint("user-", i)))
	}
	s.want("joins_total", 20)
	for late := time.Now().Add(patience); ; <-time.After(5 * time.Millisecond) {
		all := gather(t, s.registry)
		counts, coalesced := all["presence_counts_total"], all["presence_counts_coalesced_total"]
		if counts+coalesced == 20 && coalesced > 0 {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("got %v counts and %v coalesced ones, want 20 in total", counts, coalesced)
		}
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	s := open(t, presence.Config{})
	alice := user(t, "alice")
	s.stream("/events", alice)
	s.stream("/events", alice)
	s.want("counts_total", 2, "messages_total", 0, "messages_accepted_total", 0, "idempotency_keys", 0, "history_bytes", 0)
	before := gather(t, s.registry)
	const messages = 50
	for i := range messages {
		s.ask(202, "POST", "/messages", alice, fmt.Sprintf(`{"data":"hello","id":"key-%d"}`, i))
	}
	s.ask(202, "POST", "/messages", alice, `{"data":"hello","id":"key-0"}`) // a repetition
	// The deliveries of the counts can be later than before.
	deliveries := int(before["presence_deliveries_total"]) + 2*messages
	sent := int(before["presence_sent_bytes_total"]) + 2*messages*100
	s.want("messages_total", messages, "messages_accepted_total", messages, "idempotency_keys", messages, "history_bytes", within{messages * 200, messages * 2000},
		"deliveries_total", within{deliveries, deliveries + 6}, "sent_bytes_total", within{sent, sent + 2*messages*300})
}

func TestResume(t *testing.T) {
	t.Parallel()
	s := open(t, presence.Config{})
	alice := user(t, "alice")
	s.stream("/events", user(t, "bob")) // keeps the room
	var ids []string
	for range 3 {
		_, id, _ := strings.Cut(s.ask(202, "POST", "/messages", alice, `{"data":1}`), `"id":"`)
		ids = append(ids, strings.TrimSuffix(strings.TrimSpace(id), `"}`))
	}
	s.stream("/events", alice, "Last-Event-ID", ids[2])
	s.want("replays_total", 0, "replayed_messages_total", 0, "resets_total", 0)
	s.stream("/events", alice, "Last-Event-ID", ids[0])
	s.want("replays_total", 1, "replayed_messages_total", 2, "resets_total", 0)
	s.stream("/events", alice, "Last-Event-ID", "0123456789-1")
	s.want("replays_total", 1, "replayed_messages_total", 2, "resets_total", 1)
}

func TestLimits(t *testing.T) {
	t.Parallel()
	s := open(t, presence.Config{MaxRooms: 2, HistoryBytes: 2000, MaxConnections: 7, MaxIdleConnections: 9, MaxUnsentTotal: 1 << 20})
	s.want("rooms_limit", 2, "history_bytes_limit", 2000, "connections_limit", 7, "idle_connections_limit", 9, "unsent_event_bytes_limit", 1<<20)
	publish := func(room string) {
		t.Helper()
		if _, err := s.Publish(t.Context(), room, "message", strings.Repeat("x", 500)); err != nil {
			t.Fatal(err)
		}
	}
	publish("a")
	publish("b")
	s.want("history_evictions_total", 0, "rooms_evicted_total", 0)
	publish("c")
	s.want("rooms_evicted_total", 1, "rooms", 2, "history_evictions_total", 0)
	publish("c")
	publish("c")
	s.want("history_evictions_total", bound(1), "rooms_evicted_total", 1)
	unlimited := open(t, presence.Config{})
	if _, exists := gather(t, unlimited.registry)["presence_connections_limit"]; exists {
		t.Error("presence_connections_limit exists without a limit")
	}
}

func TestIdleConnections(t *testing.T) {
	t.Parallel()
	s := open(t, presence.Config{})
	s.want("idle_connections", 0)
	idle := s.dial()
	s.dial()
	s.want("idle_connections", 2)
	idle.Close()
	s.want("idle_connections", 1)
	s.stream("/events", user(t, "alice"))
	s.want("idle_connections", 1, "connections", 1)
}

// failing is a listener whose first calls of Accept fail, as at the open-file limit.
type failing struct {
	net.Listener
	left atomic.Int32
}

func (l *failing) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE} // net/http tries again
	}
	return l.Listener.Accept()
}

func TestAcceptFailures(t *testing.T) {
	t.Parallel()
	s := openOn(t, presence.Config{}, func(_ *http.Server, l net.Listener) net.Listener {
		f := &failing{Listener: l}
		f.left.Store(3)
		return f
	})
	s.ask(200, "GET", "/healthz", "", "")
	s.want("accept_failures_total", 3)
}

// endReasons has, for each metric, all values of its label reason. TestTimeout causes timeout,
// TestSlowConsumer slow, TestCluster node, and TestEnds the others.
var endReasons = map[string][]string{
	"streams_ended_total": {"closed", "draining", "expired", "removed", "signed_out", "slow", "timeout"},
	"leaves_total":        {"closed", "expired", "node", "removed", "slow", "timeout"},
}

func TestEnds(t *testing.T) {
	t.Parallel()
	s := open(t, presence.Config{Linger: -1})
	for metric, want := range endReasons {
		if got := slices.Sorted(maps.Keys(s.reasons(metric))); !slices.Equal(got, want) {
			t.Errorf("%s: got reasons %q, want %q", metric, got, want)
		}
		s.only(metric)
	}
	joins := 0
	var ends, leaves []any                                 // pairs of a series and its value
	join := func(token string, headers ...string) func() { // a join that ends within its flush interval is none
		end := s.stream("/events", token, headers...)
		joins++
		s.want("joins_total", joins)
		return end
	}
	// ended checks that the last stream ended for this reason, and that its user left for that one.
	ended := func(sub, stream, leave string) {
		t.Helper()
		ends = append(ends, fmt.Sprintf("streams_ended_total{reason=%q}", strings.ReplaceAll(stream, " ", "_")), 1)
		if leave != "" {
			leaves = append(leaves, fmt.Sprintf("leaves_total{reason=%q}", leave), 1)
		}
		s.only("streams_ended_total", ends...)
		s.only("leaves_total", leaves...)
		if strings.Contains(stream, " ") {
			stream = strconv.Quote(stream)
		}
		s.logged(1, `level=DEBUG msg="stream ended" room=lobby user=`+sub+" ")
		s.logged(1, " reason="+stream+" duration=")
	}

	join(user(t, "alice"))()
	ended("alice", "closed", "closed")

	join(user(t, "bob"))
	s.want("bans", 0)
	s.ask(204, "DELETE", "/members/bob?for=60s", admin(t), "")
	s.want("bans", 1)
	ended("bob", "removed", "removed")

	join(mint(t, auth.Claims{Sub: "carol", TTL: 5 * time.Second}))
	ended("carol", "expired", "expired")

	cookie := []string{"Cookie", auth.HostCookieName + "=" + user(t, "dave"), "Origin", "http://" + s.addr}
	join("", cookie...)
	s.ask(204, "DELETE", "/session", "", "", cookie...)
	leaves[1] = 2 // closed
	ended("dave", "signed out", "")

	join(user(t, "erin"))
	s.shutdown()
	ended("erin", "draining", "")
}

func TestDraining(t *testing.T) {
	t.Parallel()
	s := open(t, presence.Config{})
	s.want("draining", 0)
	s.shutdown()
	s.want("draining", 1, `refusals_total{reason="draining"}`, 0)
	s.ask(503, "POST", "/messages", user(t, "alice"), `{"data":1}`)
	s.want(`refusals_total{reason="draining"}`, 1)
}

func TestSlowConsumer(t *testing.T) {
	t.Parallel()
	// The backlog is measured at most 10 times per second. MaxUnsent is so high that the client is
	// not disconnected before.
	s := open(t, presence.Config{Linger: -1, MaxMessage: 16 << 10, MaxUnsent: 1 << 20})
	s.unread("/events", user(t, user(t, "alice"))) // the id of a user can be any text, also a token
	s.want("connections", 1, "backlogged_connections", 0, "backlog_bytes", 0, "unsent_event_bytes", 0)
	text := strings.Repeat("x", 16_000)
	publish := func(series string, least float64) {
		t.Helper()
		for late := time.Now().Add(patience); gather(t, s.registry)["presence_"+series] < least; {
			s.publish(text)
			if time.Now().After(late) {
				t.Fatalf("%s has not reached %v", series, least)
			}
		}
	}
	publish("backlogged_connections", 1)
	s.publish(text)
	s.publish(text)
	s.want("backlogged_connections", 1, "backlog_bytes", bound(2*len(text)), "unsent_event_bytes", bound(2*len(text)))
	publish(`streams_ended_total{reason="slow"}`, 1)
	s.want("connections", 0, "backlogged_connections", 0, "backlog_bytes", 0, "unsent_event_bytes", 0)
	s.only("streams_ended_total", `streams_ended_total{reason="slow"}`, 1)
	s.only("leaves_total", `leaves_total{reason="slow"}`, 1)
	s.logged(1, `level=WARN msg="slow consumer disconnected" room=lobby user=[token]`)
	s.logged(1, " reason=slow duration=")
}

// crowded is the configuration for crowd.
var crowded = presence.Config{Linger: 5 * time.Minute, Coalesce: time.Millisecond, MemberLimit: 10_000}

// crowd makes the snapshot of the lobby larger than 280 KB. Its members have no connections. The
// kernel buffers up to 160 KB for a client that does not read.
func (s *watched) crowd() (members int) {
	s.t.Helper()
	members = 250
	info := []byte(`"` + strings.Repeat("x", 1000) + `"`)
	var streams []*http.Response
	for i := range members {
		streams = append(streams, s.send("GET", "/events", mint(s.t, auth.Claims{Sub: fmt.Sprint("user-", i), Info: info}), ""))
	}
	s.want("joins_total", members)
	for _, answer := range streams {
		answer.Body.Close()
	}
	s.want("connections", 0, "unsent_snapshots", 0, "unsent_snapshot_bytes", 0)
	return members
}

func TestUnsentSnapshots(t *testing.T) {
	t.Parallel()
	s := open(t, crowded)
	members := s.crowd()
	token := user(t, "user-0")
	var all []net.Conn
	for range 3 {
		all = append(all, s.unread("/events", token))
	}
	s.want("unsent_snapshots", bound(1), "unsent_snapshot_bytes", bound(members*1000))
	for _, conn := range all {
		conn.Close()
	}
	s.want("unsent_snapshots", 0, "unsent_snapshot_bytes", 0)
}

func TestUnsentReplays(t *testing.T) {
	t.Parallel()
	s := open(t, presence.Config{})
	s.stream("/events", user(t, "bob")) // keeps the room
	_, id, _ := strings.Cut(s.ask(202, "POST", "/messages", user(t, "bob"), `{"data":1}`), `"id":"`)
	id = strings.TrimSuffix(strings.TrimSpace(id), `"}`)
	const messages, size = 50, 10_000 // the kernel buffers up to 160 KB
	for range messages {
		s.publish(strings.Repeat("x", size))
	}
	s.want("unsent_replays", 0, "unsent_replay_bytes", 0)
	var all []net.Conn
	for _, sub := range []string{"alice", "carol"} {
		all = append(all, s.unread("/events?last_event_id="+id, user(t, sub)))
	}
	s.want("unsent_replays", 2, "unsent_replay_bytes", within{messages * size, messages * (size + 1000)}) // each message counts once
	for _, conn := range all {
		conn.Close()
	}
	s.want("unsent_replays", 0, "unsent_replay_bytes", 0)
}

func TestHookSlow(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := open(t, presence.Config{History: -1, OnMessage: func(presence.Message) { <-release }})
	s.want(`hook_queue_bytes{hook="OnMessage"}`, 0, `hook_calls_dropped_total{hook="OnMessage"}`, 0)
	data := strings.Repeat("x", 64_000)
	fit := (64 << 20) / (len(data) + 2 + 256) // the JSON has quotes
	for range fit {
		s.publish(data)
	}
	s.want(`hook_queue_bytes{hook="OnMessage"}`, fit*(len(data)+2+256), `hook_calls_dropped_total{hook="OnMessage"}`, 0)
	s.publish(data)
	s.publish(data)
	s.only("hook_calls_dropped_total", `hook_calls_dropped_total{hook="OnMessage"}`, 2)
	close(release)
	s.want(`hook_queue_bytes{hook="OnMessage"}`, 0, `hook_calls_dropped_total{hook="OnMessage"}`, 2)
	s.logged(1, `level=WARN msg="hook calls dropped: hook too slow" hook=OnMessage`)
}

// faultyBus is a bus with faults.
type faultyBus struct {
	backplane.Bus
	cut          atomic.Bool // Publish loses everything
	disconnected atomic.Bool // reported by Status
	append       func(context.Context) error
}

func (b *faultyBus) Status() backplane.Status {
	status := b.Bus.Status()
	status.Connected = status.Connected && !b.disconnected.Load()
	return status
}

func (b *faultyBus) Publish(ctx context.Context, topic room.Name, data []byte) error {
	if b.cut.Load() {
		return nil
	}
	return b.Bus.Publish(ctx, topic, data)
}

func (b *faultyBus) Append(ctx context.Context, name room.Name, key string, data []byte) (uint64, bool, error) {
	if b.append != nil {
		return 0, false, b.append(ctx)
	}
	return b.Bus.Append(ctx, name, key, data)
}

func (b *faultyBus) Close() {} // the other node goes on

func TestCluster(t *testing.T) {
	t.Parallel()
	bus := backplane.NewMemory(backplane.MemoryConfig{Messages: 10, Age: time.Minute, Bytes: 1 << 20, Shared: true})
	t.Cleanup(bus.Close)
	dying := &faultyBus{Bus: bus}
	one, two := open(t, presence.Config{Backplane: bus, Linger: -1}), open(t, presence.Config{Backplane: dying, Linger: -1})
	for _, s := range []*watched{one, two} {
		s.want("peers", 1, "backplane_up", 1, "backplane_round_trip_seconds_count", bound(1))
	}
	one.stream("/events", user(t, "alice"))
	two.stream("/events", user(t, "bob"))
	one.want("joins_total", 2)
	one.ask(202, "POST", "/messages", user(t, "alice"), `{"data":1}`)
	one.want("messages_total", 1, "messages_accepted_total", 1)
	two.want("messages_total", 1, "messages_accepted_total", 0)
	dying.cut.Store(true)
	two.want("backplane_up", 0)
	one.want("peers", 0, "backplane_up", 1)
	one.only("leaves_total", `leaves_total{reason="node"}`, 1)
	dying.cut.Store(false)
	two.want("backplane_up", 1)
	one.want("peers", 1)
	dying.disconnected.Store(true)
	two.want("backplane_up", 0, "peers", 1)
	dying.disconnected.Store(false)
	two.want("backplane_up", 1)
	single := open(t, presence.Config{})
	single.want("peers", 0)
	if _, exists := gather(t, single.registry)["presence_backplane_up"]; exists {
		t.Error("presence_backplane_up exists without a shared backplane")
	}
}

// The names of rooms and users are in no series: after 100 of both the series are those of the
// start.
func TestSeriesAreFixed(t *testing.T) {
	t.Parallel()
	s := open(t, presence.Config{MaxConnections: 1000})
	before := keys(gather(t, s.registry))
	for i := range 100 {
		name := fmt.Sprint("name-", i)
		path := "?room=" + name
		s.stream("/events"+path, user(t, name))
		s.ask(202, "POST", "/messages"+path, user(t, name), `{"data":1,"event":"`+name+`"}`)
		s.ask(404, "GET", "/"+name, "", "")
		s.ask(401, "GET", "/presence"+path, name, "")
	}
	s.want("connections", 100, "messages_total", 100)
	if after := keys(gather(t, s.registry)); !maps.Equal(before, after) {
		t.Errorf("got %d series, and %d at the start: %v", len(after), len(before), after)
	}
	for series := range before {
		if strings.Contains(series, "name-") {
			t.Errorf("got series %s", series)
		}
	}
}

func TestCollectBeforeWatch(t *testing.T) {
	registry, m := prometheus.NewPedanticRegistry(), metrics.New()
	registry.MustRegister(m)
	want := map[string]bool{
		"presence_join_to_count_seconds_count": true, "presence_loop_pass_seconds_count": true, "presence_backplane_round_trip_seconds_count": true,
	}
	if got := keys(gather(t, registry)); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Each measurement is in the histogram of its own name, in the native bucket of its value.
func TestObserver(t *testing.T) {
	t.Parallel()
	registry, m := prometheus.NewPedanticRegistry(), metrics.New()
	registry.MustRegister(m)
	observe := map[string]func(time.Duration){
		"presence_join_to_count_seconds": m.Observer().JoinToCount, "presence_loop_pass_seconds": m.Observer().LoopPass,
		"presence_backplane_round_trip_seconds": m.Observer().RoundTrip,
	}
	want, n := map[string]map[int]int{}, 0 // numbers of samples, by the number of the bucket
	for name, add := range observe {
		n++
		for range n {
			add(125 * time.Millisecond) // 2^(-24/8)
			add(2 * time.Second)        // 2^(8/8)
		}
		want[name] = map[int]int{-24: n, 8: n}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		h := f.Metric[0].Histogram
		got, bucket, inBucket, delta := map[int]int{}, 0, 0, 0
		for _, span := range h.PositiveSpan {
			bucket += int(span.GetOffset())
			for range span.GetLength() {
				inBucket += int(h.PositiveDelta[delta]) // the difference to the bucket before
				delta++
				if inBucket > 0 {
					got[bucket] = inBucket
				}
				bucket++
			}
		}
		sum := 2.125 * float64(want[f.GetName()][8])
		if !maps.Equal(got, want[f.GetName()]) || h.GetSchema() != 3 || h.GetSampleSum() != sum {
			t.Errorf("%s: got samples %v in buckets of schema %d with sum %v, want %v, 3 and %v", f.GetName(), got, h.GetSchema(), h.GetSampleSum(), want[f.GetName()], sum)
		}
	}
}
