package metrics

import (
	"iter"
	"maps"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/internal/hub"
	"example.com/presence/pkg/presence/internal/stream"
)

const namespace = "presence"

// value is a metric without labels.
type value struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*presence.Stats) (n float64, exists bool)
}

// vector is a metric with one label. The label has a closed list of values.
type vector struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*presence.Stats) iter.Seq2[string, float64]
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

func total(name, help string, of func(*presence.Stats) uint64) value {
	return value{desc(name, help), prometheus.CounterValue, func(s *presence.Stats) (float64, bool) { return float64(of(s)), true }}
}

func gauge(name, help string, of func(*presence.Stats) int) value {
	return value{desc(name, help), prometheus.GaugeValue, func(s *presence.Stats) (float64, bool) { return float64(of(s)), true }}
}

// limit is a gauge that does not exist while it is 0, which means unlimited.
func limit(name, help string, of func(*presence.Stats) int) value {
	return value{desc(name, help), prometheus.GaugeValue, func(s *presence.Stats) (float64, bool) { return float64(of(s)), of(s) > 0 }}
}

// flag is a gauge of 1 or 0.
func flag(name, help string, of func(*presence.Stats) (is, exists bool)) value {
	return value{desc(name, help), prometheus.GaugeValue, func(s *presence.Stats) (float64, bool) {
		is, exists := of(s)
		if is {
			return 1, exists
		}
		return 0, exists
	}}
}

// totals is a vector of totals. A blank in a label's value becomes an underscore.
func totals[K ~string](name, help, label string, of func(*presence.Stats) map[K]uint64) vector {
	return vector{desc(name, help, label), prometheus.CounterValue, func(s *presence.Stats) iter.Seq2[string, float64] {
		return func(yield func(string, float64) bool) {
			for k, n := range of(s) {
				if !yield(strings.ReplaceAll(string(k), " ", "_"), float64(n)) {
					return
				}
			}
		}
	}}
}

// hooks is a vector with a value for each hook.
func hooks(name, help string, kind prometheus.ValueType, of func(hub.HookStats) float64) vector {
	return vector{desc(name, help, "hook"), kind, func(s *presence.Stats) iter.Seq2[string, float64] {
		return func(yield func(string, float64) bool) {
			for name, h := range maps.All(s.Hooks) {
				if !yield(name, of(h)) {
					return
				}
			}
		}
	}}
}

// values lists the metrics without labels.
var values = []value{
	gauge("connections", "Open streams.", func(s *presence.Stats) int { return s.Connections }),
	gauge("users", "Users with an open stream.", func(s *presence.Stats) int { return s.Users }),
	gauge("rooms", "Rooms in memory, including unused ones kept for their history.", func(s *presence.Stats) int { return s.Rooms }),
	gauge("bans", "Bans.", func(s *presence.Stats) int { return s.Bans }),
	gauge("peers", "Other live nodes.", func(s *presence.Stats) int { return s.Peers }),
	flag("backplane_up", "1 if this node has contact with the backplane, else 0. Only with a shared backplane.",
		func(s *presence.Stats) (bool, bool) { return s.Connected && !s.CutOff, s.Shared }),
	flag("draining", "1 while the server shuts down, else 0.", func(s *presence.Stats) (bool, bool) { return s.Draining, true }),
	limit("connections_limit", "Maximum of presence_connections.", func(s *presence.Stats) int { return s.MaxConnections }),
	limit("rooms_limit", "Maximum of presence_rooms.", func(s *presence.Stats) int { return s.MaxRooms }),
	gauge("idle_connections", "Connections without an open stream.", func(s *presence.Stats) int { return s.IdleConnections }),
	limit("idle_connections_limit", "Maximum of presence_idle_connections.", func(s *presence.Stats) int { return s.MaxIdleConnections }),
	gauge("history_bytes", "Size of the message histories of all rooms. 0 with a shared backplane.", func(s *presence.Stats) int { return s.LogBytes }),
	limit("history_bytes_limit", "Maximum of presence_history_bytes.", func(s *presence.Stats) int { return s.MaxLogBytes }),
	gauge("idempotency_keys", "Idempotency keys in memory. 0 with a shared backplane.", func(s *presence.Stats) int { return s.LogKeys }),
	gauge("unsent_event_bytes", "Size of the shared events that at least one client has not received yet. An event counts once for its room.", func(s *presence.Stats) int { return s.Streams.Unsent }),
	limit("unsent_event_bytes_limit", "Maximum of presence_unsent_event_bytes.", func(s *presence.Stats) int { return s.MaxUnsentTotal }),
	gauge("unsent_snapshots", "Snapshots that clients have not received yet.", func(s *presence.Stats) int { return s.SnapshotsUnsent }),
	gauge("unsent_snapshot_bytes", "Size of the snapshots that clients have not received yet.", func(s *presence.Stats) int { return s.SnapshotBytesUnsent }),
	gauge("unsent_replays", "Replays that clients have not received yet.", func(s *presence.Stats) int { return s.ReplaysUnsent }),
	gauge("unsent_replay_bytes", "Size of the replays that clients have not received yet.", func(s *presence.Stats) int { return s.ReplayBytesUnsent }),
	flag("io_uring", "1 if events to rooms with many clients are sent with io_uring, 0 if all are sent with write.",
		func(s *presence.Stats) (bool, bool) { return s.Streams.IOUring, true }),
	gauge("backlogged_connections", "Streams with events that wait for the client to read.", func(s *presence.Stats) int { return s.Streams.Backlogged }),
	gauge("backlog_bytes", "Size of the shared events that wait for clients to read.", func(s *presence.Stats) int { return s.Streams.BacklogBytes }),

	total("joins_total", "Joins published.", func(s *presence.Stats) uint64 { return s.Joins }),
	total("reloads_absorbed_total", "Streams opened by a user in its grace period, such as after a reload. They cause no join.", func(s *presence.Stats) uint64 { return s.Absorbed }),
	total("messages_total", "Messages published to the clients of this node.", func(s *presence.Stats) uint64 { return s.Messages }),
	total("messages_accepted_total", "Messages accepted by this node.", func(s *presence.Stats) uint64 { return s.Accepted }),
	total("counts_total", "User counts published.", func(s *presence.Stats) uint64 { return s.Counts }),
	total("counts_coalesced_total", "Changes of a user count that were published together with a later change, or canceled by it.", func(s *presence.Stats) uint64 { return s.Coalesced }),
	total("snapshots_total", "Snapshots encoded.", func(s *presence.Stats) uint64 { return s.Snapshots }),
	total("deliveries_total", "Shared events written to a client or queued for it, one for each event and client.", func(s *presence.Stats) uint64 { return s.Streams.Deliveries }),
	total("sent_bytes_total", "Bytes of events written to clients.", func(s *presence.Stats) uint64 { return s.Streams.Bytes }),
	total("streams_opened_total", "Streams counted in a room.", func(s *presence.Stats) uint64 { return s.StreamsOpened }),
	total("replays_total", "Clients that resumed and had missed messages.", func(s *presence.Stats) uint64 { return s.Replays }),
	total("replayed_messages_total", "Messages sent to clients that resumed.", func(s *presence.Stats) uint64 { return s.Replayed }),
	total("resets_total", "Clients that could not resume because messages were lost.", func(s *presence.Stats) uint64 { return s.Resets }),
	total("history_evictions_total", "Messages evicted at the byte limit of the history.", func(s *presence.Stats) uint64 { return s.LogEvictions }),
	total("rooms_evicted_total", "Unused rooms evicted at the room limit.", func(s *presence.Stats) uint64 { return s.RoomsEvicted }),
	total("accept_failures_total", "Connections that could not be accepted, such as at the open-file limit.", func(s *presence.Stats) uint64 { return s.AcceptFailures }),
}

// vectors lists the metrics with a label.
var vectors = []vector{
	totals("leaves_total", "Leaves published, by the reason of the last connection.", "reason", func(s *presence.Stats) map[presence.Reason]uint64 { return s.LeaveReasons }),
	totals("streams_ended_total", "Streams that have ended, by reason. slow is a slow consumer that was disconnected.", "reason", func(s *presence.Stats) map[stream.End]uint64 { return s.StreamsEnded }),
	totals("refusals_total", "Refused requests, streams and connections, by reason.", "reason", func(s *presence.Stats) map[string]uint64 { return s.Refusals }),
	totals("auth_failures_total", "Failed authentications, by reason.", "reason", func(s *presence.Stats) map[string]uint64 { return s.AuthFailures }),
	hooks("hook_queue_bytes", "Size of the queued calls of a hook.", prometheus.GaugeValue, func(h hub.HookStats) float64 { return float64(h.QueueBytes) }),
	hooks("hook_calls_dropped_total", "Calls of a hook that were dropped because its queue was full.", prometheus.CounterValue, func(h hub.HookStats) float64 { return float64(h.Dropped) }),
}
