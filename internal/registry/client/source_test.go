package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log" //nolint:depguard // httptest's server wants one
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/reference"
	"lade/internal/registry/config"
)

// TestMirrors: mirrors are asked first and without credentials; what they lack,
// or say wrongly, comes from the registry itself.
func TestMirrors(t *testing.T) {
	var asked seen
	answer := func(fn http.HandlerFunc) string {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			asked.note(r)
			fn(w, r)
		})
		return strings.TrimPrefix(s.URL, "http://")
	}
	missing := answer(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotFound) })
	lies := answer(func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="give me"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, "thanks")
	})
	good := func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			_, _ = io.WriteString(w, "layer")
			return
		}
		sendManifest(w)
	}
	main, mirror := answer(good), answer(good)
	wrong := answer(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, `{"schemaVersion":2}`) })
	ref, err := reference.Parse(main + "/a/b:tag")
	if err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{Digest: digest.FromString("layer"), Size: 5}
	for name, tt := range map[string]struct {
		mirrors []string
		prefix  string // of the path that answers last
	}{
		"none":        {nil, "/v2/a/b/"},
		"all missing": {[]string{missing, lies}, "/v2/a/b/"},
		"wrong bytes": {[]string{wrong}, "/v2/a/b/"},
		"one is good": {[]string{missing, mirror}, "/v2/m/b/"},
	} {
		c := New(Options{Backoff: time.Millisecond, Attempts: 2, Places: func(reference.Reference, bool) ([]config.Place, error) {
			var all []config.Place
			for _, m := range tt.mirrors {
				all = append(all, config.Place{Domain: m, Path: "m/b", Mirror: true})
			}
			return append(all, config.Place{Domain: main, Path: "a/b"}), nil
		}})
		t.Cleanup(c.Close)
		asked.list = nil
		s, err := c.Source(ref, alice)
		if err != nil {
			t.Fatal(err)
		}
		raw, _, err := s.Manifest(t.Context(), string(digest.FromString(manifest)))
		if err != nil || string(raw) != manifest {
			t.Errorf("%s: manifest %q, %v", name, raw, err)
		}
		if body, err := s.Blob(t.Context(), desc, 0); err != nil {
			t.Errorf("%s: blob: %v", name, err)
		} else {
			_ = body.Close()
		}
		if last := asked.list[len(asked.list)-1]; !strings.HasPrefix(last, tt.prefix+"blobs/") {
			t.Errorf("%s: asked %q", name, asked.list)
		}
		if asked.leaked() {
			t.Errorf("%s: a mirror saw credentials: %q", name, asked.list)
		}
	}
	c := New(Options{Backoff: time.Millisecond, Attempts: 2, Places: func(reference.Reference, bool) ([]config.Place, error) {
		return []config.Place{{Domain: missing, Path: "m/b", Mirror: true}, {Domain: "127.0.0.1:1", Path: "a/b"}}, nil
	}})
	s, err := c.Source(ref, alice)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = s.Manifest(t.Context(), "tag"); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") || !strings.Contains(errdefs.HintOf(err), "mirror "+missing) {
		t.Errorf("all fail: %v (%s)", err, errdefs.HintOf(err))
	}
}

// otherAddress is an address of this machine that is not loopback, so that the
// usual rules count.
func otherAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no address but loopback")
	return ""
}

// on starts a server at an address.
func on(t *testing.T, ip string, how *tls.Config, fn http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(fn)
	_ = s.Listener.Close()
	s.Listener = l
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if s.TLS = how; how != nil {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return l.Addr().String()
}

// TestInsecure: a registry that the administrator calls insecure may speak
// plain HTTP, or have a certificate of its own, and gets credentials; no other
// may.
func TestInsecure(t *testing.T) {
	ip := otherAddress(t)
	private := func(w http.ResponseWriter, r *http.Request) {
		if user, _, _ := r.BasicAuth(); user != "alice" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		sendManifest(w)
	}
	own, _ := certificate(t, ip, nil)
	for name, addr := range map[string]string{"plain": on(t, ip, nil, private), "own certificate": on(t, ip, &tls.Config{Certificates: []tls.Certificate{own}}, private)} {
		ref, err := reference.Parse(addr + "/a/b:tag")
		if err != nil {
			t.Fatal(err)
		}
		for _, insecure := range []bool{true, false} {
			c := New(Options{Backoff: time.Millisecond, Attempts: 1, Places: func(r reference.Reference, _ bool) ([]config.Place, error) {
				return []config.Place{{Domain: r.Domain, Path: r.Path, Insecure: insecure}}, nil
			}})
			t.Cleanup(c.Close)
			s, err := c.Source(ref, alice)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err = s.Manifest(t.Context(), "tag"); (err == nil) != insecure {
				t.Errorf("%s, insecure %v: %v", name, insecure, err)
			}
		}
	}
}

// certificate makes one, signed by an authority or by itself.
func certificate(t *testing.T, ip string, by *tls.Certificate) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: by == nil, BasicConstraintsValid: true, IPAddresses: []net.IP{net.ParseIP(ip)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := c, any(key)
	if by != nil {
		if parent, err = x509.ParseCertificate(by.Certificate[0]); err != nil {
			t.Fatal(err)
		}
		signer = by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestMutualTLS: a registry of an authority of its own, that wants to see a
// certificate. Where it redirects to, nobody sees that certificate.
func TestMutualTLS(t *testing.T) {
	ip := otherAddress(t)
	ca, caPEM := certificate(t, ip, nil)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(caPEM)
	server, _ := certificate(t, ip, &ca)
	me, mePEM := certificate(t, ip, &ca)
	how := &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	shown := 0
	elsewhere := on(t, ip, &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequestClientCert}, func(w http.ResponseWriter, r *http.Request) {
		shown += len(r.TLS.PeerCertificates)
		sendManifest(w)
	})
	addr := on(t, ip, how, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/away") {
			http.Redirect(w, r, "https://"+elsewhere+"/", http.StatusTemporaryRedirect)
			return
		}
		sendManifest(w)
	})
	dir := t.TempDir()
	at := filepath.Join(dir, addr)
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(me.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(at, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	get := func(tag string) error {
		c := New(Options{Backoff: time.Millisecond, Attempts: 1, TLS: config.Certs{dir}.TLS})
		t.Cleanup(c.Close)
		ref, err := reference.Parse(addr + "/a/b:" + tag)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.Source(ref, alice)
		if err != nil {
			return err
		}
		_, _, err = s.Manifest(t.Context(), tag)
		return err
	}
	if err := get("tag"); !errdefs.Is(err, errdefs.Denied) {
		t.Errorf("an unknown authority: %v", err)
	}
	put("ca.crt", caPEM)
	if err := get("tag"); err == nil {
		t.Error("without a certificate of ours")
	}
	put("client.cert", mePEM)
	if err := get("tag"); !errdefs.Is(err, errdefs.Invalid) || !strings.Contains(errdefs.HintOf(err), "client.key") {
		t.Errorf("without its key: %v (%s)", err, errdefs.HintOf(err))
	}
	put("client.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	if err := get("tag"); err != nil {
		t.Error(err)
	}
	if err := get("away"); err == nil || shown != 0 {
		t.Errorf("elsewhere, the authority is not trusted and our certificate not shown: %v, %d", err, shown)
	}
	put("ca.crt", []byte("nothing"))
	if err := get("tag"); !errdefs.Is(err, errdefs.Invalid) {
		t.Errorf("a file that holds no certificate: %v", err)
	}
}
