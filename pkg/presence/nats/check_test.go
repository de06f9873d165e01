package nats_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/nats"
)

// A URL that the client of NATS would read in another way is an error. Neither the error nor the
// log contains its password.
func TestURL(t *testing.T) {
	for url, want := range map[string]string{
		"nats://10.0.0.1:4222":               "",
		"tls://user:hunter2@nats":            "",
		"wss://nats.example.com:443/":        "",
		"nats://user:hunter%202@[::1]:4222":  "",
		"nats://user:hun,ter2@127.0.0.1:1":   "", // the comma does not end the URL
		"user:hunter2@nats:4222":             "must be like nats://",
		"http://user:hunter2@nats":           "must be like nats://",
		"nats://user:hunter2@":               "must be like nats://",
		"nats://user:hunter%2@nats":          "must be like nats://",
		"nats://user:hunter2@nats:99999x":    "must be like nats://",
		"nats://user:hun#ter2@nats:4222":     "must",
		"nats://user:hun/ter2@nats:4222":     "must",
		"nats://user@hun/ter2@nats:4222":     "must end after the port",
		"nats://user:hun?ter2@nats:4222":     "must",
		"nats://nats:4222/hunter2":           "must end after the port",
		"nats://nats:4222?password=hunter2":  "must end after the port",
		"nats://10.0.0.1,nats://10.0.0.2":    "must",
		" nats://user:hunter2@10.0.0.1:4222": "must be like nats://",
	} {
		err := nats.CheckURL(url)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "ter2")) {
			t.Errorf("%s: got %v, want %q and no password", url, err, want)
		}
	}
	var log bytes.Buffer
	c := nats.Config{URLs: []string{"nats://user:hun,ter2@127.0.0.1:1"}, Age: time.Minute, Bytes: 1 << 20, Log: slog.New(slog.NewTextHandler(&log, nil))}
	if err := nats.Check(t.Context(), c); err == nil || strings.Contains(err.Error(), "ter2") || !strings.Contains(err.Error(), "connect") {
		t.Errorf("Check: got %v, want that it cannot connect", err)
	}
	b, err := nats.Open(t.Context(), c)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	b.Close()
	if text := log.String(); strings.Contains(text, "ter2") || !strings.Contains(text, "NATS server not reachable") {
		t.Errorf("got the log %q, want that the server is not reachable", text)
	}
	c.URLs = []string{"nats://ok", "nats://user:hun/ter2@nats"}
	if _, err := nats.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "URL 2 of 2") || strings.Contains(err.Error(), "ter2") {
		t.Errorf("Open: got %v, want URL 2 of 2", err)
	}
}
