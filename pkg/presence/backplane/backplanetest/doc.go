// Package backplanetest tests implementations of backplane.Bus. It also provides buses with faults,
// for tests of packages that use a bus.
//
// [Run] checks every promise of the comments of backplane.Bus. An engine passes if it keeps the
// contract; delays and gaps in its positions are allowed. [RunInBubble] does the same in
// testing/synctest, for engines without sockets.
//
// Three functions wrap a bus. The wrapped bus passes the test too:
//
//   - [Gaps]: positions have gaps.
//   - [Slow]: calls are late, Reads fail, and Appends are accepted without an answer.
//   - [Epochs]: the epoch changes on demand.
package backplanetest
