package client

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"lade/internal/reference"
	"lade/internal/registry/auth"
)

// TestProxy: the proxy of the environment is asked for a registry elsewhere, and
// sees nothing of what is said to it. NO_PROXY is obeyed.
// The environment is read once in a process, so the client is another one.
func TestProxy(t *testing.T) {
	if authority := os.Getenv("LADE_TEST_PROXIED"); authority != "" {
		proxied(t, authority)
		return
	}
	registry := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		sendManifest(w)
	}))
	defer registry.Close()
	var mu sync.Mutex
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Method+" "+r.Host)
		if r.Header.Get("Authorization") != "" {
			asked = append(asked, "the registry's credentials")
		}
		mu.Unlock()
		if r.Method != http.MethodConnect {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		tunnel(t, w, r, registry.Listener.Addr().String())
	}))
	defer proxy.Close()
	authority := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: registry.Certificate().Raw})
	if err := os.WriteFile(authority, text, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(env ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestProxy$", "-test.v")
		cmd.Env = append(append(os.Environ(), "LADE_TEST_PROXIED="+authority), env...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("HTTPS_PROXY=" + proxy.URL); err != nil {
		t.Errorf("through the proxy: %v\n%s", err, out)
	}
	if len(asked) == 0 || strings.Join(asked, ",") != strings.Repeat("CONNECT registry.invalid:443,", len(asked)-1)+"CONNECT registry.invalid:443" {
		t.Errorf("the proxy was asked %q", asked)
	}
	n := len(asked)
	if out, err := run("HTTPS_PROXY="+proxy.URL, "NO_PROXY=registry.invalid"); err == nil || !strings.Contains(out, "registry registry.invalid") {
		t.Errorf("past the proxy: %v\n%s", err, out)
	}
	if len(asked) != n {
		t.Errorf("the proxy was asked in spite of NO_PROXY: %q", asked[n:])
	}
}

// tunnel connects a proxy's client with the registry, whatever the name was.
func tunnel(t *testing.T, w http.ResponseWriter, r *http.Request, to string) {
	t.Helper()
	up, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer up.Close()
	down, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	defer down.Close()
	_, _ = io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(up, buffered) }()
	_, _ = io.Copy(down, up)
}

// proxied asks a registry that only the proxy can find. Its certificate is for
// the name that httptest gives.
func proxied(t *testing.T, authority string) {
	t.Helper()
	text, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	c := New(Options{Attempts: 1, TLS: func(string) (*tls.Config, error) {
		return &tls.Config{RootCAs: pool, ServerName: "example.com", MinVersion: tls.VersionTLS12}, nil
	}})
	ref, err := reference.Parse("registry.invalid/a/b:tag")
	if err != nil {
		t.Fatal(err)
	}
	repo, err := c.Repository(ref, auth.Credentials{Username: "me", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := repo.Manifest(t.Context(), "tag"); err != nil {
		t.Fatal(err)
	}
}
