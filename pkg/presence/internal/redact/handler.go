package redact

import (
	"context"
	"log/slog"
)

// Logger returns a logger like log that replaces each token and each hidden character in a message
// or an attribute. Texts of clients, such as the name of a room, are in many log lines, and any of
// them can be a token.
func Logger(log *slog.Logger) *slog.Logger {
	if _, done := log.Handler().(handler); done {
		return log
	}
	return slog.New(handler{log.Handler()})
}

// handler cleans each record before it passes it on.
type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	cleaned := slog.NewRecord(r.Time, r.Level, clean(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		cleaned.AddAttrs(attr(a))
		return true
	})
	return h.Handler.Handle(ctx, cleaned)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(all(attrs))}
}

func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }

func all(attrs []slog.Attr) []slog.Attr {
	cleaned := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		cleaned[i] = attr(a)
	}
	return cleaned
}

// attr returns the attribute without tokens. It keeps values that cannot contain one, and values
// whose text it does not know.
func attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		return slog.String(a.Key, clean(v.String()))
	case slog.KindGroup:
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(all(v.Group())...)}
	case slog.KindAny:
		switch text := v.Any().(type) {
		case error:
			return slog.String(a.Key, clean(text.Error()))
		case []string:
			cleaned := make([]string, len(text))
			for i, s := range text {
				cleaned[i] = clean(s)
			}
			return slog.Any(a.Key, cleaned)
		}
	}
	return slog.Attr{Key: a.Key, Value: v}
}
