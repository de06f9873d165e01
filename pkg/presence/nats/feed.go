package nats

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.com/presence/pkg/presence/backplane"
)

// openTable opens the bucket, and creates it if it does not exist.
func (c *core) openTable(ctx context.Context) (jetstream.KeyValue, *jetstream.StreamInfo, error) {
	name := c.subjects.bucket()
	bucket, err := c.js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		_, err = c.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket:         name,
			Description:    "bans of presence",
			History:        1,
			Storage:        jetstream.FileStorage,
			Replicas:       c.config.Replicas,
			LimitMarkerTTL: markerTime,
		})
		if err == nil || errors.Is(err, jetstream.ErrBucketExists) { // another node has created it
			bucket, err = c.js.KeyValue(ctx, name)
		}
	}
	if err != nil {
		return nil, nil, c.engineError(err)
	}
	status, err := bucket.Status(ctx)
	if err != nil {
		return nil, nil, c.engineError(err)
	}
	info := status.(*jetstream.KeyValueBucketStatus).StreamInfo()
	switch have := info.Config; {
	case have.Storage != jetstream.FileStorage || have.MaxMsgsPerSubject != 1 || !have.AllowMsgTTL || !have.AllowRollup || have.MaxAge != 0:
		return nil, nil, settingErrorf("bucket %q was not created by presence: delete it (nats kv del %s), or use another prefix", name, name)
	case have.Replicas != c.config.Replicas:
		return nil, nil, fieldErrorf("Replicas", have.Replicas, "bucket %q has %d replicas, this node has %d: start all nodes with the same settings, or change the bucket (nats stream edit %s --replicas=%d)",
			name, have.Replicas, c.config.Replicas, have.Name, c.config.Replicas)
	}
	return bucket, info, nil
}

// feed is one run of the goroutine that feeds the table from the bucket.
type feed struct {
	created time.Time // of the bucket
	stop    func()
	done    chan struct{}
	loaded  chan struct{} // closed when the copy has all rows
}

// feedTable starts a goroutine that feeds the table until the feed is stopped.
func (c *core) feedTable(ctx context.Context, t *table, bucket jetstream.KeyValue, created time.Time) (*feed, error) {
	// The subscription of a watcher ends with its ctx, so ctx itself only limits the request.
	life, end := context.WithCancel(c.life)
	limited := context.AfterFunc(ctx, end)
	updates, err := bucket.WatchAll(life)
	if err == nil && !limited() {
		err = context.Cause(ctx)
	}
	if err != nil {
		end()
		return nil, c.engineError(err)
	}
	f := &feed{created: created, done: make(chan struct{}), loaded: make(chan struct{})}
	f.stop = func() {
		end()
		<-f.done
	}
	go c.runFeed(life, t, f, updates) // ends with f.stop
	return f, nil
}

func (c *core) runFeed(life context.Context, t *table, f *feed, updates jetstream.KeyWatcher) {
	defer close(f.done)
	defer func() { // the goroutine of the subscription may wait for a reader
		updates.Stop()
		for range updates.Updates() {
		}
	}()
	keys := map[string]bool{}
	var revision uint64
	for {
		var u jetstream.KeyValueEntry
		var open bool
		select {
		case <-life.Done():
			return
		case u, open = <-updates.Updates():
		}
		switch {
		case !open:
			return
		case u == nil: // all rows were delivered
			t.retain(keys, revision)
			keys = nil
			close(f.loaded)
			continue
		}
		revision = u.Revision()
		if row, ok := c.rowOf(u); ok {
			if keys != nil && !row.Deleted {
				keys[row.Key] = true
			}
			if row.Deleted {
				t.apply(row.Key, nil, revision)
			} else {
				t.apply(row.Key, &row, revision)
			}
		}
	}
}

// rowOf converts a change of the bucket. ok is false if it is malformed.
func (c *core) rowOf(u jetstream.KeyValueEntry) (row backplane.Row, ok bool) {
	if u.Operation() != jetstream.KeyValuePut {
		key, ok := untoken(u.Key())
		return backplane.Row{Key: key, Deleted: true}, ok
	}
	row, err := decodeRow(u.Key(), u.Value(), u.Created())
	if err != nil {
		c.warn.Warn(c.life, "row ignored", "err", err)
	}
	return row, err == nil
}
