// Package hub runs the live rooms of one node. It counts members and connections, publishes changes
// to them, and delivers messages. It does not handle HTTP: package presence authenticates and
// authorizes each request, and then passes a user, a [Lease] and a [Client] to the hub.
//
// The hub builds on the packages room (presence as plain data), backplane (the engine that nodes
// share) and stream (which writes bytes to sockets). It reads the time from a [Clock], and reaches
// clients through [Client] and [Streams]. A test can therefore run several hubs, each with its own
// clock, and clients without sockets.
//
// # Terms
//
//   - Room: a name with its members, connections and shared stream. The hub creates a room on first
//     use. A room is unused if it has no member, no connection, no message in flight and no reader
//     of its log. An unused room expires after Config.RoomAge. If a limit of rooms is reached, a new
//     room evicts an unused room, but never a room in use.
//   - Owner: the user whose request created the room, or the server itself. If Config.MaxRooms is
//     reached, the owner of the most rooms loses its least recently used room. A user at its own
//     limit loses such a room of its own.
//   - Settled room: a room of which the peers need no frame soon. It is evicted before the others.
//   - Registry: the map of all rooms. It creates, finds and evicts them.
//   - Counter: the state of one room, guarded by one mutex: members, connections, position, and the
//     last published user count.
//   - Connection: one open stream of one user in one room. [Hub.Connect] reserves a slot of the
//     connection limit for it, and [Hub.Join] counts it in its room. It is admitted when it
//     receives its snapshot. [Hub.Leave] releases the slot.
//   - Lease: the expiry time of a connection, and the sign-in that the connection belongs to.
//     [Hub.Renew] extends a lease.
//   - Member: a user with a counted connection, or a user in the grace period (Config.Linger) after
//     its last connection has closed.
//   - Shared stream: publishes events to all attached clients of a room, in one order.
//   - Flush interval: the minimum time between two user counts of a room. Changes and joiners wait
//     for the end of the interval, and are then published together. The interval is
//     Config.Coalesce, or longer if fan-outs are slow.
//   - Snapshot: the data of the sync event. It contains the members of the room, or only the counts
//     if the room is above Config.MemberLimit.
//   - Joiner: a counted connection that waits for its snapshot.
//   - Position: the id of a message. It consists of the epoch and the sequence number of the log.
//   - Replay: the messages after a client's position. The hub reads them from the log when the
//     client resumes.
//   - Ring: the recent log entries of a room, if other nodes use the log. Clients resume from the
//     ring. The hub reads the log once per room, not once per client.
//   - Announced position: a position of the log that another node has reported. A room that lacks
//     its entry reads the log.
//   - Reset: the event that reports to a client that messages were lost and cannot be replayed.
//   - Gap: a part of the log that a subscription may have missed. To repair a gap, the hub reads
//     the messages from the log and publishes them.
//   - Budget: a limit on the memory that slow clients use, over all rooms. Replays and snapshots
//     each have a budget. At the limit, the hub disconnects stalled clients, beginning with the user
//     that holds most. Then it refuses the users that hold more than is free.
//   - Stalled client: one that has taken less than 32 KiB in 15 s although its connection has a
//     backlog. Other clients are never disconnected for the sake of a budget.
//   - Ban: a row in the backplane's table that keeps a user out of a room ([Hub.Ban]). The deletion
//     of the row lifts the ban ([Hub.Unban]).
//   - Command: a request to all nodes, for example to renew a lease.
//   - Peer: another node that uses the same backplane. A node is one run of a process: after a
//     restart it is another node.
//   - Part: the connections and users that one node has in a room. Only that node changes it.
//   - View: the room as its clients see it. It is a function of the parts of all live nodes, the
//     bans and the time (package room).
//   - Frame: a message between nodes.
//   - Pull: the hub asks a peer for its whole part, because a frame of the part was lost.
//   - Cut off: the state of a node that does not receive its own heartbeats.
//
// # Path of a message
//
//  1. [Hub.Send] reserves a slot of the room's shared stream. If no slot is free, the sender waits.
//  2. Send appends a record to the backplane's log, without holding a lock.
//  3. Send returns the id of the message as soon as the log has accepted it.
//  4. On every node, the room's subscription delivers the records in log order. Only in this step,
//     under the room's mutex, is the event published on the room's stream.
//
// Step 4 may happen before step 3.
//
// # Path of a join
//
//  1. [Hub.Connect] reserves a slot and opens the room.
//  2. If the client resumes, [Hub.Join] reads the log, without holding a lock. The counter keeps
//     the messages that arrive during the read.
//  3. Under the room's mutex, Join counts the connection and sends the replay.
//  4. The client receives its snapshot, the user count and the messages since step 3, and is
//     attached to the shared stream. This happens immediately if no flush interval is running, if
//     the room sends only counts, or if the snapshot is small and no member change is pending.
//     Otherwise it happens at the end of the flush interval.
//
// # Several nodes
//
// If Bus.Shared returns false, this node has no peers, and nothing below exists: no frame, no timer
// and no goroutine.
//
//  1. A connection that opens or closes changes this node's part of its room. The outbox publishes
//     the changes as the next numbered frame of the part, at most every 50 ms per room.
//  2. Every node with clients in the room receives the frame, and applies it to its copy of the
//     part. The room merges the copies, and its clients get the changes of the view.
//  3. A frame that is lost is found by the number or the totals of a later one. The node of a part
//     repeats them 0.5, 1, 2 and 4 s after the last change, and then every 30 s. The receiver pulls
//     the part.
//  4. Each node publishes a heartbeat per second. A node that is silent for 5 s is dead: its
//     connections end, and its users are in their grace period since its last frame.
//  5. Every node ends every grace period itself. No node announces that a user has left, so no
//     client sees a leave of a user that moves to another node in time.
//  6. The first client of a room on a node waits for the parts of the peers, at most 1 s. If one is
//     missing then, the room is partial: its clients get only counts until the part arrives.
//  7. A node serves a room from its first client until it has neither a client nor a user in its
//     grace period. It calls OnJoin for each member when it begins to serve the room, and OnLeave
//     for each remaining member when it ceases to. A node that does not serve a room calls neither.
//
// # Locks
//
// Locks are acquired in the order below. No lock is held during a write to a socket, a hook call,
// or a backplane call that may block. The log line about a malformed entry is written under the
// room's mutex.
//
//	order  mutex        guards
//	1      rooms        the map of rooms
//	2      counter      the state of one room
//	3      connections  all connections, and the marked fields of each Connection
//	4      bans         the node's copy of the bans
//	4      hooks        the queued hook calls
//	4      owners       the owners of rooms, their lists of unused rooms, and the holding of each room
//	4      outbox       the frames that are scheduled
//	4      peers        the leases of the peers, and this node's own contact
//	4      floor        the highest number of a frame in a room that was dropped
//	4      evicted      the repeats of evicted rooms
//	4      relief       the time of the last search for stalled clients
//	4      historyReads the users whose pages of the history are being read
//	4      (stream)     all locks of package stream
//	5      replays      the replay budget
//	5      snapshots    the snapshot budget
//	5      rings        the rings of all rooms
//	5      (fair)       the rates of all users
//
// While a mutex of order 4 is held, no other mutex is acquired, with two exceptions: package stream
// holds its own locks when it reports that a replay or a snapshot was sent, which acquires a mutex
// of order 5. And owners holds its lock when it gives another account to a stream. The comment on
// each mutex names the fields that it guards.
//
// # Files
//
// Each file uses only the files above it in this list:
//
//   - client.go: the interfaces to clients and shared streams; clock.go: the clock interface, and times
//   - settings.go: labels of nodes, and settings that they have in common
//   - config.go: settings and errors
//   - wire.go: event data
//   - record.go: records in the log, and replays built from records
//   - connection.go: one open stream
//   - expiry.go: the expiries of all connections, by time
//   - connections.go: all open streams and their leases
//   - frame.go: the frames that nodes exchange
//   - bans.go: the node's copy of the bans
//   - pressure.go: disconnects stalled clients at a limit; snapshots.go and replays.go: the budgets
//   - hooks.go: calls to the embedding program
//   - outbox.go: schedules the frames of this node
//   - peers.go: the leases of the other nodes; meet.go: their labels and settings
//   - ring.go: the recent log entries of all rooms, if other nodes use the log
//   - historyreads.go: limits the reads of the log for pages of the history
//   - own.go: the state of the frames of this node's part of a room
//   - shared.go: the state that all rooms share; it includes everything above
//   - interval.go: the length of the flush interval
//   - exchange.go: the state of a room that concerns the other nodes; pulled.go: a part that was
//     read from a peer
//   - logcopy.go: the state of a room whose log other nodes use
//   - counter.go: the state of a room
//   - flush.go: publishes the changes of a flush interval
//   - parts.go: exchanges the parts of a room with the other nodes
//   - reads.go: the read of the log that the clients of a room share
//   - positions.go: compares a room with the positions that other nodes announce
//   - resume.go: reads the log for a client that resumes
//   - join.go: connections join and leave
//   - deliver.go: delivers messages from the log
//   - repair.go: repairs gaps
//   - retry.go: repeats the read of a gap
//   - live.go: a room in the registry, and its owner; owners.go: the owners of the rooms, and the
//     unused rooms; rooms.go: the registry
//   - hub.go: the hub
//   - contact.go: publishes frames, and renews the leases of peers
//   - command.go: commands to all nodes; answer.go: the answer of a node
//   - poll.go: asks nodes until each has answered
//   - pull.go: reads the parts of other nodes
//   - cluster.go: heartbeats, and the frames of other nodes
//   - open.go: opens a room
//   - session.go, update.go, members.go, connect.go, send.go, history.go, ban.go, stats.go: the
//     operations of the hub
//   - life.go: opens and closes the hub
package hub
