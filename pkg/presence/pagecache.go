package presence

import (
	"sync"
	"time"

	"example.com/presence/pkg/presence/internal/fair"
	"example.com/presence/pkg/presence/room"
)

const (
	// cachedMembers is the minimum number of members of a page that is kept. A smaller page costs
	// little to encode.
	cachedMembers = 100
	// maxCachedPages is the maximum number of kept pages. One more replaces the oldest.
	maxCachedPages = 8
	// maxPageBytes limits the encoded pages that slow clients have not read yet, in bytes; a page
	// counts for each of them. Above the limit, a page is encoded in pieces while the client reads.
	maxPageBytes = 64 << 20
)

// pageCache keeps encoded pages of members for a flush interval, so that many requests for the same
// page cost one encoding.
type pageCache struct {
	mu     sync.Mutex // guards the fields below
	recent []*cachedPage
	unread fair.Budget
}

// pageKey identifies a page: a room, and the parameters of the request.
type pageKey struct {
	room  room.Name
	after room.UserID
	limit int
}

// cachedPage is the place of a page.
type cachedPage struct {
	pageKey

	mu    sync.Mutex // guards the fields below; held while the page is made
	body  []byte
	until time.Time // zero: there is no page
}

func newPageCache() pageCache { return pageCache{unread: fair.NewBudget(maxPageBytes)} }

// get returns the encoded page. If there is none, or it is too old, get makes one, which is kept
// for the time that make returns. Other requests for the page wait meanwhile.
func (c *pageCache) get(key pageKey, now time.Time, make func() ([]byte, time.Duration, error)) ([]byte, error) {
	p := c.place(key)
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Before(p.until) {
		return p.body, nil
	}
	body, keep, err := make()
	if err != nil {
		return nil, err
	}
	p.body, p.until = body, now.Add(keep)
	return body, nil
}

// place returns the place of a page.
func (c *pageCache) place(key pageKey) *cachedPage {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.recent {
		if p.pageKey == key {
			return p
		}
	}
	if len(c.recent) == maxCachedPages {
		c.recent = append(c.recent[:0], c.recent[1:]...)
	}
	p := &cachedPage{pageKey: key}
	c.recent = append(c.recent, p)
	return p
}

// hold notes that a user reads an encoded page. It returns false if the user may not, because too
// many pages are unread. Otherwise the caller must call release at the end.
func (c *pageCache) hold(user string, size int) (release func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.unread.Fits(user, size) {
		return nil, false
	}
	c.holdLocked(user, size)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.holdLocked(user, -size)
	}, true
}

func (c *pageCache) holdLocked(user string, size int) {
	c.unread.Hold(user, size)
	c.unread.Grow(size)
}
