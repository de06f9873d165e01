package nats_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"example.com/presence/pkg/presence/nats"
)

// writePair creates a certificate for 127.0.0.1 that signs itself. It returns the files.
func writePair(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// A server may require TLS and a client certificate.
func TestTLS(t *testing.T) {
	t.Parallel()
	serverCert, serverKey := writePair(t, "server")
	clientCert, clientKey := writePair(t, "client")
	s := startServer(t, func(o *server.Options) {
		pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
		if err != nil {
			t.Fatal(err)
		}
		clients := x509.NewCertPool()
		pem, err := os.ReadFile(clientCert)
		if err != nil || !clients.AppendCertsFromPEM(pem) {
			t.Fatal("no client certificate", err)
		}
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}
	})
	c := config("tls://" + s.Addr().String())
	if _, err := nats.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the server's certificate: got %v", err)
	}
	c.CA, c.Cert, c.Key = serverCert, clientCert, clientKey
	if b := open(t, c); !b.Status().Connected {
		t.Errorf("with all certificates: got %+v", b.Status())
	}
}

// The bus reads the client certificate again for each connection, so a renewed one needs no
// restart.
func TestRenewedClientCertificate(t *testing.T) {
	t.Parallel()
	serverCert, serverKey := writePair(t, "server")
	clientCert, clientKey := writePair(t, "client")
	seen := make(chan []byte, 10)
	s := startServer(t, func(o *server.Options) {
		pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
		if err != nil {
			t.Fatal(err)
		}
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert,
			VerifyConnection: func(c tls.ConnectionState) error {
				seen <- c.PeerCertificates[0].Raw
				return nil
			}}
	})
	c := config("tls://" + s.Addr().String())
	c.CA, c.Cert, c.Key = serverCert, clientCert, clientKey
	open(t, c)
	first := <-seen
	nextCert, nextKey := writePair(t, "next")
	for from, to := range map[string]string{nextCert: clientCert, nextKey: clientKey} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	connections, err := s.Connz(nil)
	if err != nil || len(connections.Conns) != 1 {
		t.Fatalf("got connections %+v, %v; want one", connections, err)
	}
	if err := s.DisconnectClientByID(connections.Conns[0].Cid); err != nil {
		t.Fatal(err)
	}
	select {
	case second := <-seen:
		if bytes.Equal(first, second) {
			t.Error("got the previous certificate in the second connection, want the renewed one")
		}
	case <-time.After(time.Minute):
		t.Error("no second connection within a minute")
	}
}
