package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
)

// serverCertificate is the TLS certificate of the server. It may be replaced while the server runs.
// A connection keeps the certificate of its handshake.
type serverCertificate struct {
	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate] // has a Leaf
	content           []byte                          // of both files, for the current certificate
	next              []byte                          // of both files, if another pair was found once
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
	if _, err := c.load(readLimited, true); err != nil {
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

// reload reads both files again. If they form another valid pair than the current one, it replaces
// the current one and returns true. Without atOnce, it does so only if it has found this pair twice
// in a row, because a program may be writing a chain of certificates, and its first part is valid
// too. An error leaves the current one in use. Only one goroutine may call reload at a time.
//
// It compares the content of the files. Their modification time and size may be equal after a
// change: keys have a fixed size, and some file systems have times in steps of seconds. A watch of
// the directory would miss the directories that Kubernetes swaps by a symbolic link, unless it
// watched each of them.
func (c *serverCertificate) reload(atOnce bool) (replaced bool, err error) {
	return c.load(readRegular, atOnce)
}

func (c *serverCertificate) load(read func(file string) ([]byte, error), atOnce bool) (replaced bool, err error) {
	cert, err := read(c.certFile)
	if err != nil {
		return false, err
	}
	key, err := read(c.keyFile)
	if err != nil {
		return false, err
	}
	content := bytes.Join([][]byte{cert, key}, []byte{0}) // PEM has no zero byte
	if bytes.Equal(content, c.content) {
		c.next = nil
		return false, nil
	}
	pair, err := tls.X509KeyPair(cert, key) // fails if the files are of different pairs
	if err == nil && pair.Leaf == nil {     // with GODEBUG=x509keypairleaf=0
		pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0])
	}
	if err != nil {
		return false, err
	}
	if !atOnce && !bytes.Equal(content, c.next) {
		c.next = content
		return false, nil
	}
	c.content, c.next = content, nil
	c.current.Store(&pair)
	return true, nil
}

// canReload reports whether both files can be read again.
func (c *serverCertificate) canReload() bool { return isRegular(c.certFile) && isRegular(c.keyFile) }

// readRegular reads a file again. The start accepts a pipe, such as /dev/fd/3, but later a pipe is
// empty, or has no writer, and a read of it would block all reloads.
func readRegular(file string) ([]byte, error) {
	if !isRegular(file) {
		return nil, &fs.PathError{Op: "read again", Path: file, Err: errors.New("not a regular file")}
	}
	return readLimited(file)
}

// maxFile is the maximum size of a file with a certificate or a key, in bytes.
const maxFile = 1 << 20

// readLimited reads a file of at most maxFile bytes. Otherwise, a wrong file could take the memory
// of the server.
func readLimited(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = &fs.PathError{Op: "read", Path: file, Err: errors.New("larger than 1 MiB")}
	}
	return content, err
}

// isRegular reports whether the file is regular. A file that cannot be found may become regular.
func isRegular(file string) bool {
	info, err := os.Stat(file)
	return err != nil || info.Mode().IsRegular()
}
