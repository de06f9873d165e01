// Package socket reads and ends TCP sockets below net/http: the kernel's
// figures of a peer, the options that bound what the kernel keeps for it, and
// an end that frees a socket within 10 s however the peer behaves.
//
// It is the lowest package: stream uses it for event streams, guard for all
// other connections. Neither knows the other. On systems other than Linux the
// figures are zero and the options are left alone; the rules that need them
// then do not apply.
package socket
