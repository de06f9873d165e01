// Package hub keeps the live rooms of one node: their members, their connections and the way of
// their messages. It knows no HTTP: the face authenticates and authorizes, and hands over a user, a
// lease and a [Client].
//
// Below it stand room (presence as data), backplane (the engine that nodes share) and stream (bytes
// to sockets). The hub takes time from its [Clock] and reaches clients through [Client] and
// [Streams], so that several hubs with clocks of their own, and clients without sockets, run in one
// test.
//
// # Files
//
// Each uses those above it in this list only:
//
//   - client.go: what the hub needs of a stream, and clock.go of time
//   - config.go: settings and errors
//   - wire.go: the data of each event
//   - record.go: a message in the log, and a replay made of records
//   - connection.go: one open stream
//   - connections.go: all open streams; they end with their leases
//   - bans.go: the copy of the rows of the table
//   - snapshots.go and replays.go: budgets of bytes that wait for clients
//   - hooks.go: calls of the host program
//   - shared.go: all of these, which the rooms share
//   - interval.go: the coalescing rule
//   - counter.go: the mutex-guarded counter of a room
//   - flush.go: the joins of a flush interval become one count
//   - resume.go: the log is read for a client that resumes
//   - join.go: clients come and go
//   - deliver.go: messages come from the log
//   - repair.go: messages that were lost on the way are read from the log
//   - rooms.go: the registry of rooms, which creates, finds and evicts
//   - hub.go: the hub, and how a room is opened
//   - connect.go, send.go, command.go, ban.go, stats.go: the verbs of the hub
//   - life.go: its start and end
//
// # A message
//
// [Hub.Send] takes a slot of the room's stream, and appends a record to the log of the backplane,
// without a lock. The room's subscription delivers it, in the order of the log, on every node: only
// there, under the room's mutex, does it take its position on the stream. The answer to the sender
// then waits for the log alone. A joiner that resumes reads the log without the lock; the messages
// that come meanwhile are kept for it.
//
// # Locks
//
// They are taken in this order, and none is held over a call of the backplane that may wait, a write or a hook:
// the registry's, a counter's, that of the connections, then those that hold no other (bans,
// budgets, hooks, unused rooms) and all of stream.
package hub
