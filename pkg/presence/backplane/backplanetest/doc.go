// Package backplanetest tests implementations of backplane.Bus, and has buses with faults for the
// tests of their users.
//
// [Run] asks an engine for all that the comments of backplane.Bus promise. An engine passes if it
// keeps the contract, however late, and with whatever gaps in its positions. [RunInBubble] does the
// same in testing/synctest, for engines without sockets.
//
// [Gaps], [Slow] and [Epochs] wrap a bus: positions with gaps; late calls, Reads that fail and
// Appends that are accepted without an answer; an epoch that changes on demand. What they return
// passes the test as well.
package backplanetest
