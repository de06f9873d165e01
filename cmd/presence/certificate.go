package main

import (
	"bytes"
	"crypto/tls"
	"os"
	"sync/atomic"
)

// serverCertificate is the TLS certificate of the server. It may be replaced while the server runs.
// A connection keeps the certificate of its handshake.
type serverCertificate struct {
	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate] // has a Leaf
	content           []byte                          // of both files, for the current certificate
}

// certificate reads the certificate. It returns nil for plain HTTP.
func (f listenFlags) certificate() (*serverCertificate, error) {
	if (f.TLSCert == "") != (f.TLSKey == "") {
		return nil, usagef("--tls-cert and --tls-key must be set together")
	}
	if f.TLSCert == "" {
		return nil, nil
	}
	c := &serverCertificate{certFile: f.TLSCert, keyFile: f.TLSKey}
	if _, err := c.reload(); err != nil {
		return nil, usagef("--tls-cert and --tls-key: %w", denied(err))
	}
	return c, nil
}

// config returns the TLS configuration with the current certificate, or nil for plain HTTP.
func (c *serverCertificate) config() *tls.Config {
	if c == nil {
		return nil
	}
	return &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil }}
}

// reload reads both files. If they form another valid pair than the current one, it replaces the
// current one and returns true. An error leaves the current one in use. Only one goroutine may call
// reload at a time.
//
// It compares the content of the files. Their modification time and size may be equal after a
// change: keys have a fixed size, and some file systems have times in steps of seconds. A watch of
// the directory would miss the directories that Kubernetes swaps by a symbolic link, unless it
// watched each of them.
func (c *serverCertificate) reload() (replaced bool, err error) {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return false, err
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return false, err
	}
	content := bytes.Join([][]byte{cert, key}, []byte{0}) // PEM has no zero byte
	if bytes.Equal(content, c.content) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(cert, key) // fails if the files are of different pairs
	if err != nil {
		return false, err
	}
	c.content = content
	c.current.Store(&pair)
	return true, nil
}
