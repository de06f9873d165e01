// Package nats connects the nodes of one presence server through NATS. A [Bus] is a
// [backplane.Bus]: publish/subscribe over core NATS, a message log in one JetStream stream, and a
// table in one key-value bucket. All nodes with the same NATS account and prefix are one server.
//
// # Subjects
//
// Every subject begins with the prefix, which is one token. <room> is the name of a room as one
// token: each byte other than A-Z, a-z, 0-9, "_" and "-" is "=" and two hexadecimal digits. So no
// two rooms share a subject, and no name can contain a separator or a wildcard.
//
//	presence.nodes.msg                 publications to all nodes
//	presence.ask.nodes                 requests to all nodes
//	presence.room.<room>.msg           publications of a room
//	presence.room.<room>.log.<epoch>   new entries of a room's log; the NATS server republishes them
//	presence.ask.room.<room>           requests to the nodes that answer for a room
//	presence.log.<epoch>.<room>        the subjects of the stream
//	presence.table.<key>               changes of rows; the NATS server republishes them
//	presence.inbox.>                   replies
//
// A node subscribes to the subjects of the rooms that it has clients in, and receives no message of
// another room.
//
// # Log
//
// The stream has the name of the prefix, and file storage. The position of an entry is its sequence
// number in the stream, so the positions of a room have gaps. The epoch is in the metadata and in
// the subjects of the stream. A stream that was created anew has another epoch. If the last
// sequence number of the stream went back, because its servers lost their newest messages, the
// nodes give the stream another epoch. As each subject names the epoch, an entry of one epoch is
// never taken for an entry of another.
//
// Append returns when the stream has accepted the message. An entry is acknowledged by a majority
// of the stream's replicas. Reads go to the leader of the stream, because a copy may be behind it.
//
// # Table
//
// The bucket is <prefix>_table, with one key per row. Each node has a copy of all rows. It loads
// them at each contact, and when a check finds that a change is missing.
//
// # Guarantees
//
// The guarantees are those of [backplane.Bus], with these differences between the cases:
//
//   - The order of publications is that of one publisher. NATS may lose publications while a
//     connection is re-established, or if a server or this process is too slow. The subscriptions
//     then receive Lost.
//   - In a cluster of NATS servers, the other servers learn of a subscription a moment after
//     Subscribe has returned. The subscription may miss their messages until then, without Lost.
//   - Each entry names the entry of its room before it. If that one was not delivered, the
//     subscription receives Lost first.
//   - Idempotency keys are remembered for [backplane.KeyAge], but at most for Config.Age, and only
//     until the next restart of the NATS servers if the entry was removed.
//   - Clear stores a marker in the place of the entries. Until the marker expires, the room keeps
//     one entry less.
//   - Last of a room without entries is the position before the first entry of the whole stream.
//
// # Contact
//
// The bus is connected while the NATS server answers and the stream and the bucket are available.
// It checks this every 2 s, and after each interruption. A connection that has not answered two
// pings, 1 s apart, is closed and re-established.
package nats
