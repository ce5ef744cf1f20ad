// The reference of the conformance test: a program with Go's net/http/pprof and nothing else.
//
//	reference serve          listens on a free port of 127.0.0.1 and prints its address
//	reference certify DIR    makes certificates for tests of TLS in a directory
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"
)

var kept [][]byte

func main() {
	if len(os.Args) == 3 && os.Args[1] == "certify" {
		certify(os.Args[2])
		return
	}
	for range 64 {
		kept = append(kept, make([]byte, 1<<20))
	}
	pprof.NewProfile("own").Add(&kept, 0)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	fmt.Println(listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}

// certify writes NAME.pem and NAME-key.pem for the authorities "ca" and "other-ca", for "server"
// and "client" of the first, and for "stranger" of the second; and encrypted-key.pem.
func certify(directory string) {
	ca, caKey := certificate(directory, "ca", nil, nil)
	certificate(directory, "server", ca, caKey)
	certificate(directory, "client", ca, caKey)
	caDER, err := x509.MarshalECPrivateKey(caKey)
	check(err)
	encrypted, err := x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", caDER, []byte("secret"), x509.PEMCipherAES256)
	check(err)
	check(os.WriteFile(filepath.Join(directory, "encrypted-key.pem"), pem.EncodeToMemory(encrypted), 0o600))
	other, otherKey := certificate(directory, "other-ca", nil, nil)
	certificate(directory, "stranger", other, otherKey)
}

func certificate(directory, name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	check(err)
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:              []string{"localhost"},
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if parent == nil {
		template.IsCA = true
		template.KeyUsage |= x509.KeyUsageCertSign
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	check(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	check(err)
	write(filepath.Join(directory, name+".pem"), "CERTIFICATE", der)
	write(filepath.Join(directory, name+"-key.pem"), "PRIVATE KEY", keyDER)
	made, err := x509.ParseCertificate(der)
	check(err)
	return made, key
}

func write(path, kind string, der []byte) {
	check(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
