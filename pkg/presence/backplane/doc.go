// Package backplane defines the interface between the hub and the engine that connects the nodes of
// one presence server. An engine provides publish/subscribe, a message log per room, and a table of
// rows that expire. It implements [Bus]. [Memory] is the default engine and serves a single node.
// Messages, bans and commands cross nodes over the bus. Members and counts do not: each hub, the
// owner of the rooms of one node, keeps its own.
//
// The package imports only [room.Name] and the standard library. To add another engine, implement
// Bus and test it with backplanetest.Run.
//
// # Guarantees
//
//   - Publish and Ask deliver at most once. Each publisher's messages arrive in the order in which
//     it sent them.
//   - The log accepts a message once per idempotency key, for [KeyAge]. Positions increase but may
//     have gaps. Each subscription of the room receives each entry at most once and in log order.
//     For entries that it may have missed, it receives Lost, and its owner reads the log again.
//     Read never reports an incomplete result as complete.
//   - The table delivers every row and every later change to each watcher. When a row's time to
//     live ends, each watcher receives a deletion.
//   - The epoch identifies one numbering of the log. It changes when positions may be assigned a
//     second time.
//
// # Calls and locks
//
// A bus calls the functions of a [Handler] and the functions passed to Watch and Notify, one call
// at a time per subscription. A call runs on a goroutine of the bus, or on the goroutine of any
// caller of the bus. In both cases, the goroutine holds no lock of the bus. The functions may take
// the locks of their owner. They must return soon, because a running function delays its
// subscription, and possibly the caller on whose goroutine it runs.
//
//   - These functions must not call any method of the bus except Status and the cancel functions. A
//     method that changes or reads data may wait for the function that calls it. Subscribe and
//     Notify do not wait, but an engine need not allow them here.
//   - A caller of Publish, Ask, Append, Read, Last, Clear, Put, Delete, Watch or Close must not
//     hold a lock that one of these functions takes, because these methods may call the functions
//     or wait for them.
//   - Subscribe, Notify, Status and the cancel functions neither call these functions nor wait for
//     them, so their caller may hold such a lock.
//
// All methods are safe for concurrent use.
package backplane
