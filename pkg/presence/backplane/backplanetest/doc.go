// Package backplanetest tests implementations of backplane.Bus. It also provides faulty buses for
// testing packages that use a bus.
//
// [Run] checks every promise that the comments of backplane.Bus make. Delays and gaps between
// positions do not fail a check. [RunInBubble] runs the same checks within testing/synctest, for
// engines that use no sockets.
//
// Three functions wrap a bus to add faults. The wrapped bus still passes the checks:
//
//   - [Gaps] leaves gaps between positions.
//   - [Slow] delays calls, makes Read fail, and makes Append return errors for accepted messages.
//   - [Epochs] changes the epoch on demand.
package backplanetest
