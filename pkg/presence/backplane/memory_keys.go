package backplane

import (
	"crypto/sha256"
	"time"

	"example.com/presence/pkg/presence/room"
)

// keys contains the idempotency keys of all rooms, each for KeyAge. A key may outlive its entry and
// its room's log. keys has no lock and no clock: its methods receive the current time.
type keys struct {
	limit     int
	positions map[keyHash]uint64
	order     []usedKey // oldest first
}

// keyHash is a hash of a room name and an idempotency key. Its size is fixed, so long names and
// keys need no more memory.
type keyHash [16]byte

type usedKey struct {
	keyHash
	at time.Time
}

func newKeys(limit int) keys { return keys{limit: limit, positions: map[keyHash]uint64{}} }

// find returns the position of the message with the given key, unless the key has expired.
func (k *keys) find(key keyHash, now time.Time) (position uint64, found bool) {
	k.expire(now)
	position, found = k.positions[key]
	return position, found
}

// full reports whether the key limit is reached.
func (k *keys) full() bool { return len(k.positions) >= k.limit }

// add stores a new key with the position of its message.
func (k *keys) add(key keyHash, position uint64, now time.Time) {
	k.positions[key] = position
	k.order = append(k.order, usedKey{key, now})
}

// expire removes the keys that have reached KeyAge.
func (k *keys) expire(now time.Time) {
	for len(k.order) > 0 && now.Sub(k.order[0].at) >= KeyAge {
		delete(k.positions, k.order[0].keyHash)
		k.order = k.order[1:]
	}
	if len(k.order) == 0 {
		k.order = nil
	}
}

func (k *keys) clear() {
	clear(k.positions)
	k.order = nil
}

// due returns when the oldest key expires, or the zero time if there is no key.
func (k *keys) due() time.Time {
	if len(k.order) == 0 {
		return time.Time{}
	}
	return k.order[0].at.Add(KeyAge)
}

// hashKey hashes a room name and an idempotency key. A NUL byte separates them, because no room
// name contains one.
func hashKey(name room.Name, key string) keyHash {
	var space [256]byte // keeps most keys on the stack
	sum := sha256.Sum256(append(append(append(space[:0], name...), 0), key...))
	return keyHash(sum[:16])
}
