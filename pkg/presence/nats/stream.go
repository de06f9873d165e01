package nats

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/presence/pkg/presence/backplane"
)

// The keys in the metadata of the stream.
const (
	epochKey = "presence_epoch"
	// leastKey is the lowest limit of messages per room that the stream has had.
	leastKey = "presence_least_messages"
)

// streamConfig returns the configuration of the stream in an epoch.
func (c *core) streamConfig(epoch string) jetstream.StreamConfig {
	source, destination := c.subjects.republished()
	return jetstream.StreamConfig{
		Name:              c.subjects.stream(),
		Description:       "message log of presence",
		Subjects:          []string{c.subjects.logs(epoch)},
		Storage:           jetstream.FileStorage,
		Replicas:          c.config.Replicas,
		Discard:           jetstream.DiscardOld,
		MaxMsgs:           -1,
		MaxMsgSize:        -1,
		MaxConsumers:      -1,
		MaxMsgsPerSubject: int64(c.config.Messages),
		MaxAge:            c.config.Age,
		MaxBytes:          c.config.Bytes,
		Duplicates:        min(backplane.KeyAge, c.config.Age),
		AllowRollup:       true, // for the markers of Clear
		RePublish:         &jetstream.RePublish{Source: source, Destination: destination},
		Metadata:          map[string]string{epochKey: epoch, leastKey: strconv.Itoa(c.config.Messages)},
	}
}

// openStream returns the stream, and creates it if it does not exist.
func (c *core) openStream(ctx context.Context) (*jetstream.StreamInfo, error) {
	info, err := c.streamInfo(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) && !c.readOnly {
		_, err = c.js.CreateStream(ctx, c.streamConfig(newEpoch()))
		if err == nil {
			c.config.Log.Info("message log created", "stream", c.subjects.stream(), "replicas", c.config.Replicas)
		} else if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // otherwise another node has created it
			return nil, c.engineError(err)
		}
		info, err = c.streamInfo(ctx)
	}
	if err != nil {
		return nil, c.engineError(err)
	}
	if err := c.checkStream(info.Config); err != nil {
		return nil, err
	}
	if least, err := strconv.ParseInt(info.Config.Metadata[leastKey], 10, 64); !c.readOnly && err == nil && info.Config.MaxMsgsPerSubject < least {
		if _, err := c.updateStream(ctx, info.Config, map[string]string{leastKey: strconv.FormatInt(info.Config.MaxMsgsPerSubject, 10)}); err != nil {
			return nil, c.engineError(err)
		}
	}
	return info, nil
}

// leastMessages returns the lowest limit of messages per room that the stream has had. A room with
// fewer messages has lost none because of the limit.
func leastMessages(have jetstream.StreamConfig) int64 {
	least, err := strconv.ParseInt(have.Metadata[leastKey], 10, 64)
	if err != nil {
		return 1
	}
	return min(least, have.MaxMsgsPerSubject)
}

// updateStream changes the metadata of the stream, and its subjects to those of the epoch. Other
// settings, which an operator may have changed, stay.
func (c *core) updateStream(ctx context.Context, have jetstream.StreamConfig, metadata map[string]string) (jetstream.Stream, error) {
	all := map[string]string{}
	for _, from := range []map[string]string{have.Metadata, metadata} {
		for key, value := range from {
			if !strings.HasPrefix(key, "_nats.") { // the server sets these
				all[key] = value
			}
		}
	}
	have.Metadata = all
	have.Subjects = []string{c.subjects.logs(all[epochKey])}
	return c.js.UpdateStream(ctx, have)
}

func (c *core) streamInfo(ctx context.Context) (*jetstream.StreamInfo, error) {
	stream, err := c.streamOf(ctx, c.subjects.stream())
	if err != nil {
		return nil, err
	}
	c.stream.Store(&stream)
	return stream.CachedInfo(), nil
}

// streamOf asks for a stream. While a stream has no leader, no server answers, so the request has a
// short timeout.
func (c *core) streamOf(ctx context.Context, name string) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, infoTime)
	defer cancel()
	return c.js.Stream(ctx, name)
}

const infoTime = time.Second

func newEpoch() string {
	epoch := make([]byte, epochBytes)
	rand.Read(epoch)
	return hex.EncodeToString(epoch)
}

// nextEpoch returns the epoch after one whose last entries were lost. It is the same on all nodes,
// so that nodes that replace an epoch at the same time agree.
func nextEpoch(epoch string) string {
	sum := sha256.Sum256([]byte("presence epoch after " + epoch))
	return hex.EncodeToString(sum[:epochBytes])
}

const epochBytes = 5

// isEpoch reports whether an epoch has the form that [backplane.Status] describes.
func isEpoch(epoch string) bool {
	data, err := hex.DecodeString(epoch)
	return err == nil && len(data) == epochBytes && hex.EncodeToString(data) == epoch
}

// checkStream compares the settings of the stream with those of this node.
func (c *core) checkStream(have jetstream.StreamConfig) error {
	name, epoch := c.subjects.stream(), have.Metadata[epochKey]
	if !isEpoch(epoch) || !slices.Equal(have.Subjects, []string{c.subjects.logs(epoch)}) {
		return fieldErrorf("Prefix", nil, "stream %q is not a message log of presence (subjects %q): use another prefix", name, have.Subjects)
	}
	want := c.streamConfig(epoch)
	if have.Storage != want.Storage || have.RePublish == nil || *have.RePublish != *want.RePublish || have.AllowDirect ||
		!have.AllowRollup || have.Discard != want.Discard || have.Sealed {
		return settingErrorf("stream %q was changed by another program: delete it (nats --inbox-prefix %s stream rm %s), which loses the kept messages", name, c.subjects.inbox(), name)
	}
	for _, s := range []struct {
		field, setting, flag string
		have, want           any
	}{
		{"Replicas", "replicas", "--replicas", have.Replicas, want.Replicas},
		{"Messages", "messages per room", "--max-msgs-per-subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject},
		{"Age", "maximum age", fmt.Sprintf("--dupe-window=%v --max-age", want.Duplicates), have.MaxAge, want.MaxAge},
		{"Bytes", "maximum size", "--max-bytes", have.MaxBytes, want.MaxBytes},
		{"", "time of idempotency keys", "--dupe-window", have.Duplicates, want.Duplicates},
	} {
		if s.have == s.want {
			continue
		}
		err := fieldErrorf(s.field, s.have, "stream %q has %s %v, this node has %v: start all nodes with the same settings, or change the stream (nats --inbox-prefix %s stream edit %s %s=%v -f)",
			name, s.setting, s.have, s.want, c.subjects.inbox(), name, s.flag, s.want)
		if c.Status().Epoch == "" {
			return err
		}
		c.warn.Warn(c.life, "message log has other settings", "err", err) // an operator has changed it
	}
	return nil
}

// replaceEpoch gives the stream another epoch if its servers have lost their newest messages: its
// last sequence number is lower than one that this node knew before the request, or it has another
// message at a sequence number. One low answer is not enough, because a server that was the leader
// may answer as of an earlier moment.
func (c *core) replaceEpoch(ctx context.Context, info *jetstream.StreamInfo, before mark, broken bool) (*jetstream.StreamInfo, error) {
	epoch := info.Config.Metadata[epochKey]
	low := false
	for range 2 {
		if !before.exceeds(epoch, info.State.LastSeq) {
			break
		}
		low = true
		if !wait(ctx, 500*time.Millisecond) {
			return nil, context.Cause(ctx)
		}
		before = c.progress.mark()
		again, err := c.openStream(ctx)
		if err != nil {
			return nil, err
		}
		if again.Config.Metadata[epochKey] != epoch {
			return again, nil
		}
		info = again
	}
	wentBack := before.exceeds(epoch, info.State.LastSeq)
	if !wentBack && (low || broken) {
		other, err := c.hasOther(ctx, epoch)
		if err != nil {
			return nil, err
		}
		wentBack = other
	}
	if !wentBack {
		return info, nil
	}
	c.warn.Warn(ctx, "message log lost its newest messages: replacing its epoch", "stream", c.subjects.stream(),
		"last", info.State.LastSeq, "expected", before.highest)
	if _, err := c.updateStream(ctx, info.Config, map[string]string{epochKey: nextEpoch(epoch)}); err != nil {
		return nil, c.engineError(err)
	}
	return c.openStream(ctx)
}

// hasOther reports whether the stream has another message in place of the newest entry that was
// delivered to this node.
func (c *core) hasOther(ctx context.Context, epoch string) (bool, error) {
	entry := c.progress.newest(epoch)
	if entry.sequence == 0 {
		return false, nil
	}
	m, err := (*c.stream.Load()).GetMsg(ctx, entry.sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) { // it may have been removed
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return !m.Time.Equal(entry.at), nil
}

// errAccount is a [SettingError]. While the servers of a cluster start, it may end by itself.
var errAccount = settingErrorf("JetStream is not enabled for the account: enable it (jetstream: enabled)")

// Codes of errors of the JetStream API (nats-server, errors.json).
const (
	codeReplicasUnsupported = 10074
	codeOverlap             = 10065
	codeStorageFull         = 10047
	codeInProcess           = 10158
)

// engineError converts an error of a call that opens the stream or the bucket. Errors that do not
// end by themselves become a [SettingError].
func (c *core) engineError(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return errAccount
	case errors.Is(err, jetstream.ErrLimitMarkerTTLNotSupported):
		return settingErrorf("NATS server too old: version 2.11 or newer is required")
	case errors.Is(err, nats.ErrPermissionViolation):
		return settingErrorf("permission denied by the NATS server: %v", err)
	case !errors.As(err, &api):
		return err
	case api.ErrorCode == codeReplicasUnsupported:
		return fieldErrorf("Replicas", 1, "%d replicas require a cluster of NATS servers: a single server requires 1 replica", c.config.Replicas)
	case api.ErrorCode == codeOverlap:
		return fieldErrorf("Prefix", nil, "another stream has the subjects of prefix %q: use another prefix", c.config.Prefix)
	case api.ErrorCode == codeStorageFull:
		return fieldErrorf("Bytes", nil, "NATS server has less file storage than the log may use (%d bytes): %v", c.config.Bytes, err)
	}
	return err
}

// checkPayload compares the largest publication of this node with the limit of the server.
func (c *core) checkPayload() error {
	if limit := c.conn.MaxPayload(); int64(c.config.Largest) > limit {
		return fieldErrorf("Largest", limit, "NATS server accepts messages of %d bytes, this node needs %d: raise max_payload of the NATS servers", limit, c.config.Largest)
	}
	return nil
}
