// Package socket does three things with TCP and Unix sockets that net/http cannot do:
//
//   - [ReadLiveness] returns the kernel's statistics about a peer.
//   - [Tune] limits the kernel's send buffer.
//   - [Ender] closes a socket and frees it within 10 s, even if the peer does not respond (promise
//     4).
//
// It is the lowest package. Package stream uses it for event streams, and package guard for all
// other connections.
//
// A closed Unix socket is free immediately. The data that its peer has not read stays in the peer's
// own receive queue, about 32 KiB, until the peer reads it or ends. A reset cannot discard it.
//
// On systems other than Linux, the statistics are zero and the options are not set. The rules that
// need them do not apply there.
package socket
