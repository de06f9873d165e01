package nats

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/presence/pkg/presence/backplane"
)

const (
	// checkTime is the time between two checks of the stream and the bucket.
	checkTime = 2 * time.Second
	// callTime is the timeout of one call of a check.
	callTime = 1500 * time.Millisecond
	// firstTime is the maximum time that Open waits for the stream and the bucket.
	firstTime = 5 * time.Second
	// rowTime is how long a change of the bucket may be on its way.
	rowTime = 300 * time.Millisecond
	// recentTime is the maximum time that a check spends on reading them.
	recentTime = 500 * time.Millisecond
	// maxRecent is the maximum number of entries of an interruption that a check reads.
	maxRecent = 5000
	// hurryTime is the minimum time between two checks.
	hurryTime = 100 * time.Millisecond
)

// contact keeps a bus in contact with the NATS servers. One goroutine uses it: first that of Open,
// then its own.
type contact struct {
	*core
	subs     *subscriptions
	table    *table
	notified *notifications

	created time.Time // of the bucket in the table; zero before the first contact
	stale   bool      // the last load of the table has failed
	seen    uint64    // core.breaks at the last check that succeeded
	broken  bool      // the subscriptions may have lost messages since then
	failed  int       // failed checks in a row
}

// first makes the first attempts to open the stream and the bucket. Only a [SettingError]
// ends them with an error.
func (c *contact) first(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, firstTime)
	defer cancel()
	var answer error // of the last attempt that the servers have answered; until then of the first
	for {
		if !c.conn.IsConnected() {
			return nil
		}
		err := c.check(ctx)
		if answer == nil || !isTimeout(err) {
			answer = err
		}
		switch setting := new(SettingError); {
		case errors.As(err, &setting) && (!errors.Is(err, errAccount) || c.isSingle()):
			return err
		case err == nil:
			c.reportContact(c.Status().Epoch)
			return nil
		case !wait(ctx, retryTime):
			return c.withoutContact(answer)
		}
	}
}

// isTimeout reports whether the servers have not answered in time.
func isTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout)
}

// withoutContact returns the error of Open if the last answer of the server was that it has no
// JetStream. In a cluster, another server may have it, so the bus tries again.
func (c *contact) withoutContact(err error) error {
	isOff := errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrJetStreamNotEnabled)
	switch {
	case errors.Is(err, errAccount):
		return err
	case isOff && c.isSingle():
		return settingErrorf("JetStream is not enabled on the NATS server or for the account: enable it (jetstream {} in nats-server.conf)")
	}
	c.config.Log.Warn("message log not available: trying again", "err", err)
	return nil
}

// watch checks the contact until the bus is closed.
func (c *contact) watch() {
	timer := time.NewTimer(checkTime)
	defer timer.Stop()
	for {
		select {
		case <-c.life.Done():
			return
		case <-c.wake:
			if !wait(c.life, hurryTime) {
				return
			}
		case <-timer.C:
		}
		next := checkTime
		if !c.checkAndReport() {
			next = retryTime
		}
		timer.Reset(next)
	}
}

// checkAndReport makes one check, and logs a change of the contact. It reports whether the check
// has succeeded.
func (c *contact) checkAndReport() bool {
	ctx, cancel := context.WithTimeout(c.life, 4*callTime)
	defer cancel()
	before, start := c.Status(), time.Now()
	err := c.check(ctx)
	if c.isClosed() {
		return false
	}
	if err == nil {
		c.failed = 0
		if after := c.Status(); !before.Connected {
			c.reportContact(after.Epoch)
		} else if after.Epoch != before.Epoch {
			c.config.Log.Warn("message log replaced: clients lose its messages", "before", before.Epoch, "epoch", after.Epoch)
		}
		return true
	}
	c.noticed(start)
	// A leader of the stream that is elected anew does not answer for a moment.
	if c.failed++; before.Connected && (c.failed > 1 || !c.conn.IsConnected()) {
		c.config.Log.Warn("backplane not connected", "err", err)
		c.broken = true
		c.setStatus(backplane.Status{Epoch: before.Epoch})
		c.notified.wake()
	} else if !before.Connected {
		c.warn.Warn(ctx, "backplane still not connected", "err", err)
	}
	return false
}

// reportContact logs the begin of a contact. Servers that are no cluster divide the nodes.
func (c *contact) reportContact(epoch string) {
	server := c.conn.ConnectedUrlRedacted()
	c.config.Log.Info("backplane connected", "server", server, "epoch", epoch)
	if len(c.config.URLs) > 1 && c.isSingle() {
		c.warn.Warn(c.life, "NATS server belongs to no cluster, but several are configured: nodes at different servers may not see each other", "server", server)
	}
}

// check opens the stream and the bucket again.
func (c *contact) check(ctx context.Context) error {
	breaks := c.breaks.Load()
	c.broken = c.broken || breaks != c.seen
	c.seen = breaks
	c.subs.loseDropped(time.Now())
	if !c.conn.IsConnected() {
		return cmp.Or(c.conn.LastError(), nats.ErrDisconnected)
	}
	if err := c.checkPayload(); err != nil {
		return err
	}
	mark := c.progress.mark()
	info, err := c.openStream(ctx)
	if err != nil {
		return err
	}
	if info, err = c.replaceEpoch(ctx, info, mark, c.broken); err != nil {
		return err
	}
	if err := c.checkTable(ctx); err != nil {
		return err
	}
	c.accept(ctx, info)
	return nil
}

// accept records that the stream and the bucket are available. If the connection was interrupted,
// or the epoch has changed, all subscriptions receive Lost.
func (c *contact) accept(ctx context.Context, info *jetstream.StreamInfo) {
	epoch, before, now := info.Config.Metadata[epochKey], c.Status(), time.Now()
	c.progress.start(epoch)
	lost := c.broken || epoch != before.Epoch
	c.broken = false
	c.checked.Store(c.seen)
	noticed := c.brokeAt.Load()
	var last sample
	var recent map[string]bool
	known := false
	if lost {
		broke := now
		if noticed != nil {
			broke = *noticed
		}
		if last, known = c.progress.before(broke.Add(-noticeTime)); known {
			recent = c.recent(ctx, epoch, last.sequence, info.State.LastSeq)
		}
	}
	c.repaired(noticed, c.seen)
	c.progress.sampled(epoch, info.State.LastSeq, now)
	changed := c.setStatus(backplane.Status{Epoch: epoch, Connected: true})
	if lost {
		c.subs.loseAll(last, known, recent, now)
	}
	if changed {
		c.notified.wake()
	}
}

// recent returns the tokens of the rooms that have entries between two sequence numbers; nil if
// there are too many entries. With it, a node need not read the log of each room after an
// interruption.
func (c *contact) recent(ctx context.Context, epoch string, after, last uint64) map[string]bool {
	rooms := map[string]bool{}
	ctx, cancel := context.WithTimeout(ctx, recentTime)
	defer cancel()
	begin := after
	for range maxRecent {
		if after >= last {
			return c.ifWhole(ctx, epoch, begin, rooms)
		}
		m, err := (*c.stream.Load()).GetMsg(ctx, after+1, jetstream.WithGetMsgSubject(c.subjects.logs(epoch)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return c.ifWhole(ctx, epoch, begin, rooms)
		}
		if err != nil {
			return nil
		}
		rooms[m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]] = true
		after = m.Sequence
	}
	return nil
}

// ifWhole returns the rooms, or nil if the stream has removed a message after a sequence number. It
// must be called after the messages were read.
func (c *contact) ifWhole(ctx context.Context, epoch string, after uint64, rooms map[string]bool) map[string]bool {
	info, err := c.streamInfo(ctx)
	if err != nil || info.Config.Metadata[epochKey] != epoch || info.State.FirstSeq > after+1 {
		return nil
	}
	return rooms
}

// checkTable opens the bucket, and loads its rows if the copy may lack changes.
func (c *contact) checkTable(ctx context.Context) error {
	reached := c.table.reached()
	info, err := c.openTable(ctx)
	if err != nil {
		return err
	}
	// A bucket that ends before the copy has lost its newest rows. Its revisions begin again there.
	recreated := !c.created.Equal(info.Created) || info.State.LastSeq < reached
	if recreated && !c.created.IsZero() {
		c.warn.Warn(ctx, "table of bans was deleted or went back: bans may have ended", "bucket", c.subjects.bucket())
	}
	if !c.broken && !recreated && !c.stale {
		soon, cancel := context.WithTimeout(ctx, rowTime)
		defer cancel()
		if c.table.await(soon, info.State.LastSeq) {
			return nil
		}
	}
	c.stale = true // a later change may hide one that is missing
	if err := c.loadTable(ctx, c.table, info, recreated); err != nil {
		return err
	}
	c.stale, c.created = false, info.Created
	return nil
}
