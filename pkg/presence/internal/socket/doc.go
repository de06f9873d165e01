// Package socket works with TCP sockets below net/http:
//
//   - It reads the kernel's figures for a peer ([ReadPulse]).
//   - It sets the options that limit the kernel's buffers ([Tune]).
//   - It closes a socket so that it is free within 10 s, even if the peer is silent ([Ender];
//     promise 4).
//
// It is the lowest package: stream uses it for event streams, guard for all other connections.
//
// On systems other than Linux the figures are zero and the options are not set. The rules that need
// them do not apply there.
package socket
