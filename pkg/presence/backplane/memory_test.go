package backplane_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

var _ backplane.Bus = (*backplane.Memory)(nil)

// open returns a bus, and closes it when the test ends. It sets a high limit for each limit that c
// leaves at 0.
func open(t *testing.T, c backplane.MemoryConfig) *backplane.Memory {
	t.Helper()
	if c.Messages == 0 {
		c.Messages = 1000
	}
	if c.Age == 0 {
		c.Age = 5 * time.Minute
	}
	if c.Bytes == 0 {
		c.Bytes = 64 << 20
	}
	m := backplane.NewMemory(c)
	t.Cleanup(m.Close)
	return m
}

func add(t *testing.T, b backplane.Bus, name room.Name, key, data string) uint64 {
	t.Helper()
	position, duplicate, err := b.Append(t.Context(), name, key, []byte(data))
	if err != nil || duplicate {
		t.Fatalf("append %q to %s: duplicate %v, error %v", data, name, duplicate, err)
	}
	return position
}

// read returns the entries above after as text, such as "3:c 4:d". The text starts with "…" if an
// entry is missing.
func read(t *testing.T, b backplane.Bus, name room.Name, after uint64) string {
	t.Helper()
	entries, complete, err := b.Read(t.Context(), name, after)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	if !complete {
		words = append(words, "…")
	}
	for _, e := range entries {
		words = append(words, fmt.Sprintf("%d:%s", e.Position, strings.TrimRight(string(e.Data), ".")))
	}
	return strings.Join(words, " ")
}

func subscribe(t *testing.T, b backplane.Bus, name room.Name, h backplane.Handler) (cancel func()) {
	t.Helper()
	cancel, err := b.Subscribe(name, h)
	if err != nil {
		t.Fatal(err)
	}
	return cancel
}

func TestLog(t *testing.T) { // promise 3
	synctest.Test(t, func(t *testing.T) {
		m := open(t, backplane.MemoryConfig{Messages: 3, Age: time.Minute})
		for _, data := range []string{"a", "b", "c", "d", "e"} {
			time.Sleep(time.Second)
			add(t, m, "r", "", data)
		}
		add(t, m, "other", "", "x")
		time.Sleep(time.Second)
		for after, want := range map[uint64]string{
			5: "", 4: "5:e", 2: "3:c 4:d 5:e", 1: "… 3:c 4:d 5:e", 0: "… 3:c 4:d 5:e", 6: "…", 1 << 63: "…",
		} {
			if got := read(t, m, "r", after); got != want {
				t.Errorf("after %d: got %q, want %q", after, got, want)
			}
		}
		time.Sleep(58 * time.Second) // d is now one minute old
		for after, want := range map[uint64]string{2: "… 5:e", 3: "… 5:e", 4: "5:e"} {
			if got := read(t, m, "r", after); got != want {
				t.Errorf("later, after %d: got %q, want %q", after, got, want)
			}
		}
		if err := m.Clear(t.Context(), "r"); err != nil {
			t.Fatal(err)
		}
		if got := read(t, m, "other", 0); got != "1:x" {
			t.Errorf("another room after Clear: got %q, want %q", got, "1:x")
		}
	})
}

func TestDelivery(t *testing.T) {
	m := open(t, backplane.MemoryConfig{})
	var got []string
	cancel := subscribe(t, m, "r", backplane.Handler{
		Entry:   func(e backplane.Entry) { got = append(got, fmt.Sprint(e.Position, string(e.Data))) },
		Message: func(data []byte) { got = append(got, string(data)) },
		Ask:     func(request []byte) []byte { return append(request, '!') },
	})
	add(t, m, "r", "k", "a")
	if position, duplicate, err := m.Append(t.Context(), "r", "k", []byte("again")); position != 1 || !duplicate || err != nil {
		t.Errorf("repeated key: got %d, %v, %v, want 1, true, nil", position, duplicate, err)
	}
	if err := m.Publish(t.Context(), "r", []byte("m")); err != nil {
		t.Fatal(err)
	}
	m.Publish(t.Context(), "other", []byte("n"))
	add(t, m, "r", "", "b")
	err := m.Ask(t.Context(), "r", []byte("q"), func(data []byte) bool {
		got = append(got, string(data))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	add(t, m, "r", "", "c")
	if got := strings.Join(got, " "); got != "1a m 2b q!" {
		t.Errorf("got %q, want %q", got, "1a m 2b q!")
	}
}

func TestRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, backplane.MemoryConfig{MaxRows: 2})
		put := func(key, value string, ttl time.Duration) error { return m.Put(t.Context(), key, []byte(value), ttl) }
		put("a", "1", time.Minute)
		var got []string
		cancel, err := m.Watch(func(r backplane.Row) {
			got = append(got, fmt.Sprintf("%s=%s", r.Key, r.Value))
			if r.Deleted {
				got[len(got)-1] = r.Key + "-"
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		put("b", "2", time.Second)
		put("a", "3", time.Minute)
		full := new(backplane.TableFullError)
		if err := put("c", "4", time.Second); !errors.Is(err, backplane.ErrTableFull) || !errors.As(err, &full) || full.Limit != 2 ||
			err.Error() != "table row limit reached (2)" {
			t.Errorf("third row at a limit of 2: got %v, want ErrTableFull with the limit", err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if err := put("c", "4", 2*time.Second); err != nil {
			t.Errorf("put after one row has expired: %v", err)
		}
		m.Delete(t.Context(), "a")
		m.Delete(t.Context(), "a")
		cancel()
		time.Sleep(time.Minute)
		if got := strings.Join(got, " "); got != "a=1 b=2 a=3 b- c=4 a-" {
			t.Errorf("got %q, want %q", got, "a=1 b=2 a=3 b- c=4 a-")
		}
		if got := m.Stats().Rows; got != 0 {
			t.Errorf("got %d rows after all have ended, want 0", got)
		}
	})
}

func TestClosed(t *testing.T) {
	m := open(t, backplane.MemoryConfig{})
	cancel := subscribe(t, m, "r", backplane.Handler{Entry: func(backplane.Entry) { t.Error("called after Close") }})
	m.Close()
	m.Close()
	cancel()
	ctx := context.Background()
	_, _, appended := m.Append(ctx, "r", "", nil)
	_, _, read := m.Read(ctx, "r", 0)
	_, last := m.Last(ctx, "r")
	_, subscribed := m.Subscribe("r", backplane.Handler{})
	_, watched := m.Watch(func(backplane.Row) {})
	m.Notify(func(backplane.Status) {})()
	for name, err := range map[string]error{
		"Publish": m.Publish(ctx, "r", nil), "Append": appended, "Read": read, "Last": last, "Subscribe": subscribed,
		"Ask": m.Ask(ctx, "r", nil, nil), "Clear": m.Clear(ctx, "r"), "Put": m.Put(ctx, "k", nil, 1),
		"Delete": m.Delete(ctx, "k"), "Watch": watched,
	} {
		if !errors.Is(err, backplane.ErrClosed) {
			t.Errorf("%s: got %v, want ErrClosed", name, err)
		}
	}
	if m.Status().Connected {
		t.Error("connected after Close")
	}
}
