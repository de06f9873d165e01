package nats

import (
	"context"
	"errors"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// openTable opens the bucket, and creates it if it does not exist.
func (c *core) openTable(ctx context.Context) (*jetstream.StreamInfo, error) {
	name := c.subjects.bucket()
	sent := c.config.now()
	stream, err := c.streamOf(ctx, "KV_"+name)
	if err == nil {
		c.compareClocks(ctx, sent, stream.CachedInfo().TimeStamp, c.config.now())
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) && !c.readOnly {
		_, err = c.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket:         name,
			Description:    "bans of presence",
			History:        1,
			Storage:        jetstream.FileStorage,
			Replicas:       c.config.Replicas,
			LimitMarkerTTL: markerTime,
			RePublish:      c.rePublishRows(),
		})
		if err == nil {
			c.config.Log.Info("table of bans created", "bucket", name, "replicas", c.config.Replicas)
		}
		if err == nil || errors.Is(err, jetstream.ErrBucketExists) { // another node has created it
			stream, err = c.streamOf(ctx, "KV_"+name)
		}
	}
	if err != nil {
		return nil, c.engineError(err)
	}
	info := stream.CachedInfo()
	switch have := info.Config; {
	case have.Storage != jetstream.FileStorage || have.MaxMsgsPerSubject != 1 || !have.AllowMsgTTL || !have.AllowRollup || have.MaxAge != 0 ||
		have.RePublish == nil || *have.RePublish != *c.rePublishRows():
		return nil, settingErrorf("bucket %q was not created by presence: delete it (nats --inbox-prefix %s kv del %s), or use another prefix", name, c.subjects.inbox(), name)
	case have.Replicas != c.config.Replicas:
		err := fieldErrorf("Replicas", have.Replicas, "bucket %q has %d replicas, this node has %d: start all nodes with the same settings, or change the bucket (nats --inbox-prefix %s kv edit %s --replicas=%d)",
			name, have.Replicas, c.config.Replicas, c.subjects.inbox(), name, c.config.Replicas)
		if c.Status().Epoch == "" {
			return nil, err
		}
		c.warn.Warn(c.life, "table of bans has other settings: restart this node with them", "err", err)
	}
	return info, nil
}

func (c *core) rePublishRows() *jetstream.RePublish {
	return &jetstream.RePublish{Source: "$KV." + c.subjects.bucket() + ".>", Destination: c.subjects.rows() + ">"}
}

// loadTable reads all rows of the bucket into the table. info is that of the bucket just before the
// call.
//
// The rows have the time at which they were stored, by the clock of the server. The clock of this
// node may differ, so loadTable adds the age of the row at the time of info. The delay since then
// makes a row end a little later here. The deletion of the row ends it at the right time.
func (c *core) loadTable(ctx context.Context, t *table, info *jetstream.StreamInfo, recreated bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	now := moment{server: info.TimeStamp, node: c.config.now()}
	bucket, err := c.js.KeyValue(ctx, c.subjects.bucket())
	if err != nil {
		return c.engineError(err)
	}
	t.begin(recreated)
	defer t.stop()
	rows, err := bucket.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return c.engineError(err)
	}
	defer func() { // the goroutine of the subscription may wait for a reader
		rows.Stop()
		for range rows.Updates() {
		}
	}()
	keys := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case u, open := <-rows.Updates():
			if !open {
				return errors.New("nats: reading the bucket was interrupted")
			}
			if u == nil { // all rows were delivered
				t.end(keys, info.State.LastSeq)
				return nil
			}
			row, err := decodeRow(u.Key(), u.Value(), now.toNode(u.Created()))
			if err != nil {
				c.warn.Warn(ctx, "row ignored", "err", err)
				continue
			}
			keys[row.Key] = true
			t.apply(tableRow{row, u.Revision()})
		}
	}
}

// receiveRow applies a change that NATS has republished.
func (c *core) receiveRow(t *table, m *nats.Msg) {
	row, err := parseRow(strings.TrimPrefix(m.Subject, c.subjects.rows()), m, c.config.now())
	if err != nil {
		c.warn.Warn(c.life, "row ignored", "err", err)
		return
	}
	if c.enter() {
		defer c.running.Done()
		t.apply(row)
	}
}
