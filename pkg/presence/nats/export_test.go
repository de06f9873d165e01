package nats

// QueueSize is the maximum number of messages that wait for a worker.
const QueueSize = queueSize

// Dropped returns the number of messages that were dropped because a handler was too slow.
func (b *Bus) Dropped() (n int) {
	b.subs.mu.RLock()
	defer b.subs.mu.RUnlock()
	for sub := range b.subs.byNATS {
		dropped, _ := sub.Dropped()
		n += dropped
	}
	return n
}

// Check makes the bus check its contact soon.
func (b *Bus) Check() { b.doubt() }
