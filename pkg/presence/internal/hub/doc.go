// Package hub runs the live rooms of one node. It counts members and connections, publishes their
// changes, and delivers messages. It knows no HTTP: the face (package presence) authenticates and
// authorizes a request, and passes a user, a [Lease] and a [Client] to the hub.
//
// Below the hub are room (presence as plain data), backplane (the engine that nodes share) and
// stream (writes bytes to sockets). The hub takes the time from its [Clock] and reaches clients
// through [Client] and [Streams]. So one test can run several hubs, each with its own clock, and
// clients without sockets.
//
// # Terms
//
//   - Room: a name, its members and connections, and their shared stream. The hub creates it on
//     first use. It is unused while it has no member, no connection, no message on its way and no
//     reader of its log. An unused room expires after Config.RoomAge. At Config.MaxRooms the room
//     that has been unused longest is evicted.
//   - Registry: the map of all rooms. It creates, finds and evicts them.
//   - Counter: the state of one room, behind one mutex: its members, its connections, its position,
//     and the last user count it published.
//   - Connection: one open stream of one user in one room. It takes a slot of the connection limit
//     ([Hub.Connect]), is counted ([Hub.Join]), is admitted when it has its snapshot, and gives its
//     slot back ([Hub.Leave]).
//   - Lease: the time at which a connection must end, and the sign-in it belongs to. [Hub.Renew]
//     extends it.
//   - Member: a user with a counted connection, or in its grace period (Config.Linger) after the
//     last one.
//   - Shared stream: publishes each event to all attached clients of a room, in one order.
//   - Flush interval: the time from one user count of a room to the next. Changes and joiners of an
//     interval wait for its end and are published together. It is Config.Coalesce, or longer while
//     a fan-out is slow.
//   - Snapshot: the data of the sync event: the members of a room, or only the counts above
//     Config.MemberLimit.
//   - Joiner: a connection that is counted and waits for its snapshot.
//   - Position: the id of a message, made of the epoch and the sequence number of the log.
//   - Replay: the messages since a client's position. The hub reads them from the log when the
//     client resumes.
//   - Reset: the event for a client whose messages cannot be replayed. Some are lost to it.
//   - Gap: the part of the log that a subscription may have lost. The hub reads it and publishes
//     its messages (repair).
//   - Budget: a limit on the bytes that slow clients keep in memory, over all rooms. There is one
//     for replays and one for snapshots. Above it, the clients with the oldest data are
//     disconnected.
//   - Ban: a row in the backplane's table that keeps a user out of a room ([Hub.Kick]).
//   - Command: a request to all nodes, for example to renew a lease.
//
// # A message
//
//  1. [Hub.Send] reserves a slot of the room's shared stream. A full stream holds the sender back.
//  2. It appends a record to the log of the backplane, without a lock.
//  3. The sender gets its answer. After step 1 it waits for the log only.
//  4. On every node the room's subscription delivers the record, in the order of the log. Only
//     here, under the room's mutex, does the message take its position on the stream.
//
// Step 4 may come before step 3.
//
// # A join
//
//  1. [Hub.Connect] takes a slot and opens the room.
//  2. [Hub.Join] reads the log for a client that resumes, without a lock. The counter keeps the
//     messages that arrive meanwhile.
//  3. Under the room's mutex, it counts the connection and sends the replay.
//  4. The client receives its snapshot, the user count and the messages since, and is attached to
//     the shared stream. This happens at once if the snapshot is small and no member change is
//     pending, otherwise at the end of the flush interval.
//
// # Locks
//
// Locks are taken in this order. None is held during a write, a hook, or a call of the backplane
// that may wait.
//
//	order  mutex        guards
//	1      rooms        the map of rooms
//	2      counter      the state of one room
//	3      connections  all connections, and the marked fields of each Connection
//	4      bans         the node's copy of the bans
//	4      replays      the budget of replays
//	4      snapshots    the budget of snapshots
//	4      hooks        the queued calls of hooks
//	4      unused       the order in which rooms became unused; two fields of each room
//	4      (stream)     all locks of package stream
//
// The holder of a mutex of order 4 takes no other, except inside package stream. The comment of
// each mutex names the fields that it guards.
//
// # Files
//
// Each file uses only those above it in this list:
//
//   - client.go: the interfaces to clients and shared streams; clock.go: the interface to time
//   - config.go: settings and errors
//   - wire.go: the data of each event
//   - record.go: a message in the log, and a replay made of records
//   - connection.go: one open stream
//   - connections.go: all open streams; they end with their leases
//   - bans.go: the node's copy of the bans
//   - snapshots.go and replays.go: the budgets
//   - hooks.go: calls of the host program
//   - shared.go: the state that all rooms share: all of the above
//   - interval.go: the rule of the flush interval
//   - counter.go: the state of a room
//   - flush.go: publishes the changes of a flush interval as one count
//   - resume.go: reads the log for a client that resumes
//   - join.go: connections join and leave
//   - deliver.go: messages from the log
//   - repair.go: reads lost messages from the log
//   - rooms.go: the registry
//   - hub.go: the hub, and the opening of a room
//   - connect.go, send.go, command.go, ban.go, stats.go: the operations of the hub
//   - life.go: its start and end
package hub
