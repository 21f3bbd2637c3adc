package store

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"llamero/cache/store/storetest"
)

// A Cluster of three nodes, of which one is named, and all.
func TestCluster(t *testing.T) {
	const slots = 16384
	var nodes []*server
	for range 3 {
		nodes = append(nodes, startRedis(t, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port", strconv.Itoa(freePort(t))))
	}
	for i, n := range nodes {
		c := raw(t, n.addr)
		do(t, c, "CLUSTER", "ADDSLOTSRANGE", i*slots/3, (i+1)*slots/3-1)
		if i > 0 {
			host, port, _ := net.SplitHostPort(nodes[0].addr)
			bus := nodes[0].args[len(nodes[0].args)-1]
			do(t, c, "CLUSTER", "MEET", host, port, bus)
		}
	}
	storetest.Until(t, "the cluster is whole", func() bool {
		for _, n := range nodes {
			info := fmt.Sprint(do(t, raw(t, n.addr), "CLUSTER", "INFO"))
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3") {
				return false
			}
		}
		return true
	})
	for name, url := range map[string]string{
		"one node": nodes[0].url() + "?cluster=true",
		"all":      "redis://" + nodes[0].addr + "?addr=" + nodes[1].addr + "&addr=" + nodes[2].addr,
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range nodes {
				do(t, raw(t, n.addr), "FLUSHALL")
			}
			storetest.Remote(t, storetest.Config{
				PageTokens: testTokens, PageBytes: testBytes, Open: opener(url, nil),
			})
			for _, n := range nodes {
				if keys := do(t, raw(t, n.addr), "DBSIZE").(int64); keys == 0 {
					t.Errorf("%s holds no page", n.addr)
				}
			}
		})
	}
}

// A master that a Sentinel watches.
func TestSentinel(t *testing.T) {
	master := startRedis(t, "--requirepass", "secret")
	host, port, _ := net.SplitHostPort(master.addr)
	conf := filepath.Join(t.TempDir(), "sentinel.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "sentinel monitor main %s %s 1\nsentinel auth-pass main secret\n", host, port), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel := startSentinel(t, conf)
	storetest.Until(t, "the Sentinel knows its master", func() bool {
		v, err := raw(t, sentinel.addr).Do(t.Context(), "SENTINEL", "CKQUORUM", "main").Result()
		return err == nil && strings.HasPrefix(fmt.Sprint(v), "OK")
	})
	storetest.Remote(t, storetest.Config{
		PageTokens: testTokens, PageBytes: testBytes, Open: opener("redis://:secret@"+sentinel.addr+"/1?master_name=main", nil),
	})
}

// startSentinel runs redis-server as a Sentinel, which has no database and takes its
// configuration from a file that it writes to.
func startSentinel(t *testing.T, conf string) *server {
	t.Helper()
	s := &server{t: t}
	t.Cleanup(s.kill)
	for try := 0; ; try++ {
		port := strconv.Itoa(freePort(t))
		s.addr = net.JoinHostPort("127.0.0.1", port)
		if s.run(conf, "--sentinel", "--bind", "127.0.0.1", "--port", port) {
			return s
		}
		if try == 4 {
			t.Fatalf("the Sentinel does not start: %s", s.log)
		}
	}
}

// Over TLS with certificates on both sides, as a user who may do nothing but what a
// tier needs.
func TestTLSAndACL(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	ca.issue("server")
	ca.issue("client")
	file := func(name string) string { return filepath.Join(dir, name) }
	port := freePort(t)
	s := startRedis(t, "--tls-port", strconv.Itoa(port), "--tls-ca-cert-file", file("ca.pem"),
		"--tls-cert-file", file("server.pem"), "--tls-key-file", file("server.key"), "--tls-auth-clients", "yes")
	password := "p@ss/w:rd#?"
	do(t, raw(t, s.addr), "ACL", "SETUSER", "gateway", "on", ">"+password, "~suite*", "+getrange", "+set", "+select")
	do(t, raw(t, s.addr), "ACL", "SETUSER", "default", "off")
	query := "?tls_ca=" + file("ca.pem") + "&tls_cert=" + file("client.pem") + "&tls_key=" + file("client.key")
	u := fmt.Sprintf("rediss://gateway:%s@127.0.0.1:%d/1%s", url.QueryEscape(password), port, query)
	storetest.Remote(t, storetest.Config{
		PageTokens: testTokens, PageBytes: testBytes, Open: opener(u, nil),
	})
	for name, u := range map[string]string{
		"no client certificate": fmt.Sprintf("rediss://gateway:%s@127.0.0.1:%d?tls_ca=%s", url.QueryEscape(password), port, file("ca.pem")),
		"unknown authority":     fmt.Sprintf("rediss://gateway:%s@127.0.0.1:%d", url.QueryEscape(password), port),
		"another name":          u + "&tls_name=other.example",
		"wrong password":        fmt.Sprintf("rediss://gateway:wrong@127.0.0.1:%d%s", port, query),
		"keys of others":        u, // the namespace is not one of the user's
		"no TLS":                fmt.Sprintf("redis://127.0.0.1:%d", port),
	} {
		t.Run(name, func(t *testing.T) {
			untilOpen(t, open(t, testOptions(u)), true)
		})
	}
}

// Over a socket of this machine.
func TestUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "llamero") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "redis.sock")
	startRedis(t, "--unixsocket", socket, "--unixsocketperm", "700")
	storetest.Remote(t, storetest.Config{
		PageTokens: testTokens, PageBytes: testBytes, Open: opener("unix://"+socket+"?db=3", func(o *RedisOptions) { o.Key = nil }),
	})
}

// Without a key nothing beyond this machine is connected to, whoever names it.
func TestOnlyLocal(t *testing.T) {
	// The address is of those for documentation; it is refused before a packet leaves.
	_, err := dialer(nil, 1, true)(t.Context(), "tcp", "192.0.2.1:6379")
	if err == nil || !strings.Contains(err.Error(), "not on this machine") {
		t.Errorf("error %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := dialer(nil, 1, true)(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// authority makes certificates for tests.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	a := &authority{t: t, dir: dir}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tests"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = a.write("ca", a.cert, a.cert, nil)
	return a
}

// issue writes NAME.pem and NAME.key, for 127.0.0.1.
func (a *authority) issue(name string) {
	a.write(name, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, a.key)
}

// write signs a certificate, by itself where there is no signer.
func (a *authority) write(name string, cert, parent *x509.Certificate, signer *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: der},
		name + ".key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return key
}
