package loglimit

import (
	"log"
	"log/slog"
	"strings"
	"time"
)

// causedByClients lists the prefixes of lines that net/http logs once per client or per accept. The
// cause is the open-file limit, or a client that does not speak TLS or HTTP/2.
var causedByClients = []string{"http: Accept error", "http: TLS handshake error", "http2: ", "timeout waiting for "}

// ErrorLog returns a logger for [net/http.Server.ErrorLog] that logs each line as a warning. Lines
// that clients can cause are logged at most once per minute and prefix. All other lines are always
// logged.
func (l *Limiter) ErrorLog() *log.Logger {
	return log.New(errorLog{l, slog.NewLogLogger(l.log.Handler(), slog.LevelWarn)}, "", 0)
}

// errorLog is the writer of [Limiter.ErrorLog]. Each call of Write receives one line.
type errorLog struct {
	limiter *Limiter
	lines   *log.Logger
}

func (e errorLog) Write(line []byte) (int, error) {
	for _, kind := range causedByClients {
		if strings.HasPrefix(string(line), "http2: panic ") { // of a handler
			break
		}
		if strings.HasPrefix(string(line), kind) && !e.limiter.due(kind, time.Now()) {
			return len(line), nil
		}
	}
	return e.lines.Writer().Write(line)
}
