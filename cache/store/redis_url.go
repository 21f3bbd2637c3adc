package store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

const (
	maxURLBytes      = 4 << 10
	maxRedisAddrs    = 64
	maxRedisDatabase = 1 << 16
)

// urlParameters are those that a Redis URL may have.
var urlParameters = []string{
	"addr", "cluster", "db", "master_name", "sentinel_username", "sentinel_password", "tls_ca", "tls_cert", "tls_key", "tls_name",
}

// OptionsFromURL reads where Redis is:
//
//	redis://user:password@host:6379/0     one server
//	rediss://…                            over TLS
//	unix://user:password@/path/to.sock    over a socket of this machine; ?db=1
//	redis://…?cluster=true                a Cluster, of which one node is named
//	redis://…?addr=host:6379&addr=…       a Cluster, of which several are
//	redis://host:26379/0?master_name=NAME&addr=host:26379  Sentinels and the master they watch
//
// sentinel_username and sentinel_password are the Sentinels' own. With rediss,
// tls_ca names a file of certificate authorities instead of the system's, tls_cert
// and tls_key this client's certificate, tls_name the name in the server's where it
// is not the host. What is special in a user or password is percent-encoded. No
// error quotes any part of the URL that could be a password.
func OptionsFromURL(raw string) (*redis.UniversalOptions, error) {
	if len(raw) > maxURLBytes {
		return nil, fmt.Errorf("the URL of Redis is longer than %d bytes", maxURLBytes)
	}
	// What url.Parse takes for a port may be half a password: its error is not shown.
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("not a URL such as redis://user:password@host:6379/0; what is special in a password must be percent-encoded")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("the parameters of the URL are not well-formed")
	}
	switch u.Scheme {
	case "redis", "rediss", "unix":
	default:
		return nil, errors.New("the URL must begin with redis://, rediss:// or unix://")
	}
	if u.Opaque != "" || u.Fragment != "" || u.Scheme != "unix" && strings.Contains(u.Path+u.RawQuery, "@") {
		return nil, errors.New("the URL is not of the form redis://user:password@host:6379/0; what is special in a password must be percent-encoded, such as @ / ? #")
	}
	for name, values := range query {
		if !slices.Contains(urlParameters, name) {
			return nil, fmt.Errorf("the URL has a parameter that is none of %s", strings.Join(urlParameters, ", "))
		}
		if name != "addr" && len(values) > 1 || slices.Contains(values, "") {
			return nil, fmt.Errorf("parameter %s must have one value", name)
		}
	}

	o := &redis.UniversalOptions{
		Username:         u.User.Username(),
		MasterName:       query.Get("master_name"),
		SentinelUsername: query.Get("sentinel_username"),
		SentinelPassword: query.Get("sentinel_password"),
	}
	o.Password, _ = u.User.Password()
	if o.MasterName == "" && (o.SentinelUsername != "" || o.SentinelPassword != "") {
		return nil, errors.New("sentinel_username and sentinel_password want master_name")
	}
	if o.IsClusterMode, err = flag(query, "cluster"); err != nil {
		return nil, err
	}
	if o.Addrs, err = addresses(u, query); err != nil {
		return nil, err
	}
	if o.MasterName == "" && len(o.Addrs) > 1 {
		o.IsClusterMode = true
	}
	if o.DB, err = database(u, query); err != nil {
		return nil, err
	}
	switch {
	case o.IsClusterMode && o.MasterName != "":
		return nil, errors.New("cluster and master_name exclude each other")
	case o.IsClusterMode && o.DB != 0:
		return nil, errors.New("a Cluster has database 0 only")
	}
	if o.TLSConfig, err = tlsConfig(u.Scheme, query); err != nil {
		return nil, err
	}
	return o, nil
}

func flag(query url.Values, name string) (bool, error) {
	switch query.Get(name) {
	case "true":
		return true, nil
	case "false", "":
		return false, nil
	}
	return false, fmt.Errorf("parameter %s must be true or false", name)
}

// addresses are all that the URL names.
func addresses(u *url.URL, query url.Values) ([]string, error) {
	if u.Scheme == "unix" {
		if u.Host != "" || !path.IsAbs(u.Path) || query.Has("addr") || query.Has("cluster") || query.Has("master_name") {
			return nil, errors.New("a socket is named as unix:///path/to.sock, alone")
		}
		return []string{u.Path}, nil
	}
	if u.Hostname() == "" {
		return nil, errors.New("the URL names no host")
	}
	if strings.Contains(u.Host, ",") {
		return nil, errors.New("further addresses are given as ?addr=host:port&addr=host:port")
	}
	port := u.Port()
	if port == "" {
		port = "6379"
		if query.Has("master_name") {
			port = "26379"
		}
	}
	out := append([]string{net.JoinHostPort(u.Hostname(), port)}, query["addr"]...)
	if len(out) > maxRedisAddrs {
		return nil, fmt.Errorf("the URL has more than %d addresses", maxRedisAddrs)
	}
	for _, addr := range out {
		host, port, err := net.SplitHostPort(addr)
		if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || n == 0 || host == "" {
			return nil, errors.New("each address must be host:port with a port from 1 to 65535")
		}
	}
	return out, nil
}

func database(u *url.URL, query url.Values) (int, error) {
	text := query.Get("db")
	if u.Scheme != "unix" {
		if in := strings.Trim(u.Path, "/"); in != "" && text != "" {
			return 0, errors.New("the database is named twice, in the path and as db")
		} else if in != "" {
			text = in
		}
	}
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n >= maxRedisDatabase {
		return 0, fmt.Errorf("the database must be a number from 0 to %d", maxRedisDatabase-1)
	}
	return int(n), nil
}

// tlsConfig is nil without TLS.
func tlsConfig(scheme string, query url.Values) (*tls.Config, error) {
	ca, cert, key, name := query.Get("tls_ca"), query.Get("tls_cert"), query.Get("tls_key"), query.Get("tls_name")
	if scheme != "rediss" {
		if ca+cert+key+name != "" {
			return nil, errors.New("tls_ca, tls_cert, tls_key and tls_name want rediss://")
		}
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("tls_ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls_ca: no certificate in %s", ca)
		}
	}
	if (cert == "") != (key == "") {
		return nil, errors.New("tls_cert and tls_key want each other")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("tls_cert and tls_key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// where names addresses for people.
func where(o *redis.UniversalOptions) string {
	s := strings.Join(o.Addrs, ",")
	if o.MasterName != "" {
		s = o.MasterName + " of " + s
	}
	if o.DB != 0 {
		s += "/" + strconv.Itoa(o.DB)
	}
	return s
}

// loopback says whether all addresses are this machine's own.
func loopback(addrs []string) bool {
	for _, addr := range addrs {
		if path.IsAbs(addr) {
			continue // a socket
		}
		host, _, err := net.SplitHostPort(addr)
		if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}
