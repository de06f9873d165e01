// Package socket reads and closes TCP sockets below net/http: the kernel's figures for a peer, the
// options that bound the kernel's buffers, and a close that frees a socket within 10 s whatever the
// peer does (promise 4).
//
// It is the lowest package: stream uses it for event streams, guard for all other connections. On
// systems other than Linux the figures are zero and the options are not set; the rules that need
// them do not apply then.
package socket
