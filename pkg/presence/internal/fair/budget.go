package fair

// Budget limits the total size of the holdings of all users. It is not safe for concurrent use.
//
// A user may hold at most as much as is free: one user alone gets at most half of the limit, two
// users a third each, and n users 1/(n+1) each. So a newcomer finds some of it free, however much
// the others want. Switches share their buffers among queues by the same rule (A. K. Choudhury and
// E. L. Hahne, "Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM
// Transactions on Networking 6(2), 1998).
type Budget struct {
	limit int
	total int            // of all users; a holding that several users share counts once
	users map[string]int // of each user; a holding that several users share counts for each
}

// NewBudget returns a budget of which nothing is held. The limit is in any unit, such as bytes.
func NewBudget(limit int) Budget { return Budget{limit: limit, users: map[string]int{}} }

// Fits reports whether the user may hold more, if the total grows by n: not at all if another user
// already holds the same. A holding that needs no more space always fits.
func (b *Budget) Fits(user string, n int) bool {
	return n == 0 || b.users[user]+n <= b.limit-b.total
}

// Exceeds reports whether the total is above the limit.
func (b *Budget) Exceeds() bool { return b.total > b.limit }

// Hold adds n, which may be negative, to the holdings of the user.
func (b *Budget) Hold(user string, n int) {
	if b.users[user] += n; b.users[user] <= 0 {
		delete(b.users, user)
	}
}

// Grow adds n, which may be negative, to the total.
func (b *Budget) Grow(n int) { b.total += n }

// Total returns the size of the holdings of all users.
func (b *Budget) Total() int { return b.total }

// Held returns the size of the holdings of the user.
func (b *Budget) Held(user string) int { return b.users[user] }
