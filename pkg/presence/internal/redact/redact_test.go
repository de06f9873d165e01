package redact_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"example.com/presence/pkg/presence/internal/redact"
)

func TestText(t *testing.T) {
	const jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.3rUxyJ1wQ2mY0bKf9Zk6bX4y5r7E3l2o1p8q9s0tUvW"
	const blank = "eyAiYWxnIjogIkhTMjU2IiB9.ewogICJzdWIiOiAiYWxpY2UiCn0.3rUxyJ1wQ2mY0bKf9Zk6bX4y5r7E3l2o1p8q9s0tUvW"
	for in, want := range map[string]string{
		"":                      "",
		"doc-1.draft_2":         "doc-1.draft_2",
		"/members/alice.b.c":    "/members/alice.b.c",
		"/" + jwt:               "/[token]",
		"/a/" + jwt + "/" + jwt: "/a/[token]/[token]",
		"/" + strings.ReplaceAll(jwt, ".", "%2E") + "/a":                                      "/[token]/a",
		"/" + strings.ReplaceAll(jwt, ".", "%25252e") + "/a":                                  "/[token]/a",
		strings.NewReplacer(".", "%2e", "-", "%2d", "_", "%5f").Replace("a=" + blank + "-_b"): "a=[token]",
		blank[:40]:                        "[token]",
		"ewoiYWxnIjoiSFMyNTYifQ ewoiYWxn": "[token] ewoiYWxn",
		`no "` + jwt[:30] + `" ...`:       `no "[token]" ...`,
		"AAAAAAAAAAAA.BBBBBBBBBBBB.CCCCCCCCCCCCCCCCCCCCCCCC": "[token]", // a blank after the brace
		"a\u009b31m\u202eb\u007f\u200b":                      `a\u009b31m\u202eb\u007f\u200b`,
		"é 日本 \n":                                            "é 日本 \n", // the handlers of slog escape the line break
		strings.Repeat("x", 256):                             strings.Repeat("x", 256),
		strings.Repeat("x", 257):                             strings.Repeat("x", 256) + "…",
		strings.Repeat("x", 255) + "é":                       strings.Repeat("x", 255) + "…",
		strings.Repeat("x", 254) + "éé":                      strings.Repeat("x", 254) + "é…",
	} {
		if got := redact.Text(in); got != want {
			t.Errorf("Text(%.80q): got %q, want %q", in, got, want)
		}
	}
	if got, want := redact.Cut(jwt+"/abc", 9), "[token]/a…"; got != want {
		t.Errorf("Cut: got %q, want %q", got, want)
	}
	if got, want := redact.Quote("a\"\n"+jwt, 8), `"a\"\n[toke…"`; got != want {
		t.Errorf("Quote: got %s, want %s", got, want)
	}
	for want, texts := range map[string][]string{
		"none": nil, `"a", "[token]"`: {"a", jwt}, `"abcdefg…", "b", "c", "d"`: {"abcdefgh", "b", "c", "d"}, `"a", "b", "c", "d" and 2 more`: {"a", "b", "c", "d", "e", jwt},
	} {
		if got := redact.List(texts, 7); got != want {
			t.Errorf("List(%q): got %s, want %s", texts, got, want)
		}
	}
}

// No kind of attribute, no message and no logger with attributes passes a token on. The rest of the
// line is as without Logger.
func TestLogger(t *testing.T) {
	const jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.bQsnLqM2pVnX3rUxyJ1wQ2mY0bKf9Zk6bX4y5r7E3l2"
	lines := func(wrap func(*slog.Logger) *slog.Logger, text string) string {
		var out bytes.Buffer
		options := slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}
		log := wrap(slog.New(slog.NewJSONHandler(&out, &options)))
		log.Debug("not enabled")
		log.Warn("message "+text, "room", text, "count", 3, "err", errors.New("got "+text), "names", []string{"a", text},
			slog.Group("group", "user", text, "nested", slog.GroupValue(slog.String("id", text))), "valuer", valuer(text))
		log.With("user", text).WithGroup("g").Info("next", "room", text)
		return out.String()
	}
	plain := func(log *slog.Logger) *slog.Logger { return log }
	if got, want := lines(redact.Logger, jwt), lines(plain, "[token]"); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	twice := func(log *slog.Logger) *slog.Logger { return redact.Logger(redact.Logger(log)) }
	if got, want := lines(twice, "doc-1.draft"), lines(plain, "doc-1.draft"); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

type valuer string

func (v valuer) LogValue() slog.Value { return slog.StringValue(string(v)) }
