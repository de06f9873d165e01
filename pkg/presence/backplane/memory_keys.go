package backplane

import (
	"crypto/sha256"
	"time"

	"example.com/presence/pkg/presence/room"
)

// keys holds the idempotency keys of all rooms, each for KeyAge. A key outlives its entry and its
// room's log. It is plain data.
type keys struct {
	limit     int
	positions map[keyHash]uint64
	order     []usedKey // by time
}

// keyHash is a hash of room and key. Its size does not depend on their length.
type keyHash [16]byte

type usedKey struct {
	keyHash
	at time.Time
}

func newKeys(limit int) keys { return keys{limit: limit, positions: map[keyHash]uint64{}} }

// find returns the position of the message with the key.
func (k *keys) find(key keyHash, now time.Time) (position uint64, found bool) {
	k.expire(now)
	position, found = k.positions[key]
	return position, found
}

// full reports whether no key can be added.
func (k *keys) full() bool { return len(k.positions) >= k.limit }

// add stores a new key.
func (k *keys) add(key keyHash, position uint64, now time.Time) {
	k.positions[key] = position
	k.order = append(k.order, usedKey{key, now})
}

// expire removes the keys that are too old.
func (k *keys) expire(now time.Time) {
	for len(k.order) > 0 && now.Sub(k.order[0].at) >= KeyAge {
		delete(k.positions, k.order[0].keyHash)
		k.order = k.order[1:]
	}
	if len(k.order) == 0 {
		k.order = nil
	}
}

// clear removes all keys.
func (k *keys) clear() {
	clear(k.positions)
	k.order = nil
}

// due returns when the oldest key expires; the zero time if there is none.
func (k *keys) due() time.Time {
	if len(k.order) == 0 {
		return time.Time{}
	}
	return k.order[0].at.Add(KeyAge)
}

// hashKey hashes the two, with a byte between them that no room name contains.
func hashKey(name room.Name, key string) keyHash {
	var space [256]byte // keeps most keys on the stack
	sum := sha256.Sum256(append(append(append(space[:0], name...), 0), key...))
	return keyHash(sum[:16])
}
