package presence

import (
	"fmt"
	"net/http"
	"time"

	"example.com/presence/pkg/presence/internal/rates"
	"example.com/presence/pkg/presence/internal/refusal"
)

// limits holds the rates of all users. Each user has one token bucket of each kind. Admins have
// none.
type limits struct {
	messages limit // of messages
	costs    limit // of the bytes that the requests of the user cause; see Config.CostRate
	history  limit // of the bytes that the messages of the user take in a shared history
}

const (
	// memberCost is the cost, in bytes, of a member in a page, and of a client that receives a
	// state. Either takes about as much CPU as the delivery of so many bytes: 5 µs.
	memberCost = 1 << 10
	// historyCost is the minimum cost of a page of the history, in bytes.
	historyCost = 1 << 10
	// minAudience is the minimum number of clients that a state is charged for, as the request
	// itself takes as much CPU as that many deliveries.
	minAudience = 64
)

func newLimits(c Config) limits {
	l := limits{
		messages: limit{rates.NewTable(c.MessageRate, c.MessageBurst), refusal.Rate, fmt.Sprintf("message rate limit exceeded (%v per second)", c.MessageRate)},
		costs:    limit{rates.NewTable(float64(c.CostRate), c.CostBurst), refusal.Cost, fmt.Sprintf("cost rate limit exceeded (%d bytes per second)", c.CostRate)},
		history:  limit{rates.NewTable(-1, 1), refusal.HistoryRate, fmt.Sprintf("history rate limit exceeded (%d bytes per second)", c.HistoryRate)},
	}
	if c.Backplane != nil && c.Backplane.Shared() && c.History > 0 {
		l.history.rates = rates.NewTable(float64(c.HistoryRate), max(c.HistoryBytes/16, c.MaxMessage))
	}
	return l
}

// limit is one rate of all users, and the answer of a request that exceeds it.
type limit struct {
	rates  *rates.Table
	cause  refusal.Cause
	detail string
}

// take takes n tokens of the user. The error is a problem with the status 429.
func (l limit) take(u User, n int) error {
	if u.Admin {
		return nil
	}
	if wait := l.rates.Take(u.ID, n, time.Now()); wait > 0 {
		return &problem{status: http.StatusTooManyRequests, cause: l.cause, detail: l.detail, retry: wait}
	}
	return nil
}

// charge takes n tokens of the user, even if the user has none.
func (l limit) charge(u User, n int) {
	if !u.Admin {
		l.rates.Charge(u.ID, n, time.Now())
	}
}
