// Package backplane is what the nodes of one presence server share: publications, the log of each
// room's messages, and a table of rows that expire. An engine implements [Bus]; [Memory] is the
// default, for one node. The hub keeps presence itself and uses the bus for nothing else.
//
// The package knows [room.Name] and the standard library. To write another engine, implement Bus
// and run backplanetest.Run against it.
//
// # Guarantees
//
//   - Publications (Publish, Ask) arrive at most once and in the order of one publisher.
//   - The log accepts a message once per idempotency key, for [KeyAge]. Its positions grow and may
//     have gaps. Each subscription of the room receives each entry once and in log order, or
//     receives Lost and reads the log again. Read never claims to be complete when it is not.
//   - The table delivers every row and every later change to each watcher, and a deletion when the
//     time to live of a row ends.
//   - The epoch names one numbering of the log. It changes when positions may be given twice.
//
// # Calls and locks
//
// The functions given to a bus (of a [Handler], Watch and Notify) run one at a time per
// subscription, on a goroutine of the bus or on that of any caller of the bus, which holds no lock
// of the bus then. They may take the locks of their owner, and must return soon: while one runs,
// its subscription waits, and perhaps the caller whose goroutine it uses.
//
//   - These functions call no method of the bus but Status and the cancel functions: any other may
//     wait for the function that calls it.
//   - Publish, Ask, Append, Read, Last, Clear, Put, Delete, Watch and Close are never called while
//     the caller holds a lock that one of these functions takes.
//   - Subscribe, Notify, Status and the cancel functions call none of these functions and wait for
//     none.
//
// All methods are safe for concurrent use.
package backplane
