// Package backplane defines the state that the nodes of one presence server share: publications,
// the log of each room's messages, and a table of rows that expire. An engine implements [Bus].
// [Memory] is the default engine, for one node. The hub keeps presence itself, and uses the bus for
// nothing else.
//
// The package imports only [room.Name] and the standard library. To write another engine, implement
// Bus and run backplanetest.Run against it.
//
// # Guarantees
//
//   - Publications (Publish, Ask) arrive at most once, and in the order of each publisher.
//   - The log accepts a message once per idempotency key, for [KeyAge]. Positions grow and may have
//     gaps. Each subscription of the room receives each entry once and in log order. If it misses
//     an entry, it receives Lost and reads the log again. Read never reports an incomplete result
//     as complete.
//   - The table delivers every row and every later change to each watcher. It delivers a deletion
//     when a row's time to live ends.
//   - The epoch names one numbering of the log. It changes when a position may be given twice.
//
// # Calls and locks
//
// A bus calls the functions of a [Handler], and those given to Watch and Notify. It makes these
// calls one at a time per subscription. They run on a goroutine of the bus, or on the goroutine of
// any caller of the bus, which holds no lock of the bus at that time. The functions may take the
// locks of their owner. They must return soon: a running function delays its subscription, and
// perhaps the caller whose goroutine it uses.
//
//   - These functions call no method of the bus except Status and the cancel functions. Any other
//     method may wait for the function that calls it.
//   - A caller of Publish, Ask, Append, Read, Last, Clear, Put, Delete, Watch or Close must not
//     hold a lock that one of these functions takes.
//   - Subscribe, Notify, Status and the cancel functions call none of these functions, and wait for
//     none. A caller may hold such a lock.
//
// All methods are safe for concurrent use.
package backplane
