package guard

import "sync/atomic"

// prefaceText is the beginning of the preface of an HTTP/2 connection (RFC 9113 section 3.4). No
// HTTP/1 request begins with it.
const prefaceText = "PRI * HTTP/2.0"

// preface finds out whether a connection without TLS uses HTTP/2. net/http reports neither that nor
// a TLS state for such a connection.
type preface struct {
	seen    atomic.Bool
	matched int // matched bytes of prefaceText; -1: the first bytes differ. Used only by Conn.Read
}

// add adds bytes that the peer sent.
func (p *preface) add(b []byte) {
	for i := 0; i < len(b) && p.matched >= 0 && !p.seen.Load(); i++ {
		if b[i] != prefaceText[p.matched] {
			p.matched = -1
			return
		}
		p.matched++
		p.seen.Store(p.matched == len(prefaceText))
	}
}
