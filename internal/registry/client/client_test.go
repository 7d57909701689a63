package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log" //nolint:depguard // httptest's server wants one
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/reference"
	"lade/internal/registry/auth"
)

const manifest = `{"schemaVersion":2,"config":{},"layers":[]}`

var alice = auth.Credentials{Username: "alice", Password: "secret"}

// seen records requests and the credentials that came with them.
type seen struct {
	mu   sync.Mutex
	list []string
}

func (s *seen) note(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, r.URL.Path+" "+r.Header.Get("Authorization"))
}

func (s *seen) leaked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	secret := base64.StdEncoding.EncodeToString([]byte("alice:secret"))
	all := strings.Join(s.list, "\n")
	return strings.Contains(all, secret) || strings.Contains(all, "Bearer")
}

func serve(t *testing.T, fn http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(fn)
	t.Cleanup(s.Close)
	return s
}

func quick() *Client {
	return New(Options{Backoff: time.Millisecond, Attempts: 4, Stall: 2 * time.Second})
}

func repo(t *testing.T, c *Client, server string, cred auth.Credentials) *Repository {
	t.Helper()
	t.Cleanup(c.Close)
	ref, err := reference.Parse(strings.TrimPrefix(server, "http://") + "/a/b:tag")
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Repository(ref, cred)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sendManifest(w http.ResponseWriter) {
	w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest+"; charset=utf-8")
	_, _ = io.WriteString(w, manifest)
}

func TestManifest(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for _, mt := range []string{ocispec.MediaTypeImageIndex, image.DockerList, ocispec.MediaTypeImageManifest, image.DockerManifest} {
			if !strings.Contains(r.Header.Get("Accept"), mt) {
				t.Errorf("Accept lacks %s", mt)
			}
		}
		switch r.URL.Path {
		case "/v2/a/b/manifests/tag", "/v2/a/b/manifests/" + string(digest.FromString(manifest)):
			sendManifest(w)
		case "/v2/a/b/manifests/lies":
			w.Header().Set("Docker-Content-Digest", string(digest.FromString("other")))
			sendManifest(w)
		case "/v2/a/b/manifests/" + string(digest.FromString("other")):
			sendManifest(w)
		case "/v2/a/b/manifests/huge":
			_, _ = w.Write(make([]byte, image.MaxManifest+1))
		case "/v2/a/b/manifests/noname":
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}`)
		case "/v2/a/b/manifests/page":
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "<html>\x1b[31m")
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`)
		}
	})
	r := repo(t, quick(), s.URL, auth.Credentials{})
	for _, object := range []string{"tag", string(digest.FromString(manifest))} {
		raw, d, err := r.Manifest(t.Context(), object)
		if err != nil || string(raw) != manifest || d.Digest != digest.FromString(manifest) || d.MediaType != ocispec.MediaTypeImageManifest {
			t.Errorf("Manifest(%s) = %q, %+v, %v", object, raw, d, err)
		}
	}
	for object, want := range map[string]struct {
		class errdefs.Class
		says  string
	}{
		"lies":                                 {errdefs.DataLoss, "wrong digest"},
		string(digest.FromString("other")):     {errdefs.DataLoss, "wrong digest"},
		"huge":                                 {errdefs.Exhausted, "longer than"},
		"gone":                                 {errdefs.NotFound, "manifest unknown"},
		"noname":                               {errdefs.NotFound, "repository "},
		"page":                                 {errdefs.NotFound, "404"},
		"sha256:../../../etc/passwd":           {errdefs.Invalid, "malformed"},
		"md5:d41d8cd98f00b204e9800998ecf8427e": {errdefs.Invalid, "algorithm"},
	} {
		_, _, err := r.Manifest(t.Context(), object)
		if !errdefs.Is(err, want.class) || !strings.Contains(err.Error(), want.says) {
			t.Errorf("Manifest(%s): %v (%v)", object, err, errdefs.ClassOf(err))
		}
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	r := repo(t, quick(), l.Addr().String(), auth.Credentials{})
	_, _, err = r.Manifest(t.Context(), "tag")
	if !errdefs.Is(err, errdefs.Unavailable) || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(errdefs.HintOf(err), "is the registry running?") {
		t.Errorf("registry down: %v (hint %q)", err, errdefs.HintOf(err))
	}
	ref, err := reference.Parse("registry.invalid/a")
	if err != nil {
		t.Fatal(err)
	}
	c := quick()
	c.o.Base = nil
	err = unreachable(origin(ref.Domain), &net.DNSError{Name: "registry.invalid", IsNotFound: true})
	if !strings.Contains(err.Error(), "no such host") || !strings.Contains(errdefs.HintOf(err), "check the name") {
		t.Errorf("no such host: %v", err)
	}
}

// TestLoopbackTLS: a registry on this machine may speak TLS all the same.
func TestLoopbackTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { sendManifest(w) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	c := New(Options{Backoff: time.Millisecond, Base: http.DefaultTransport})
	_, _, err := repo(t, c, strings.TrimPrefix(s.URL, "https://"), auth.Credentials{}).Manifest(t.Context(), "tag")
	if !errdefs.Is(err, errdefs.Denied) || !strings.Contains(err.Error(), "certificate is not trusted") {
		t.Errorf("unknown authority: %v", err)
	}
	c = New(Options{Backoff: time.Millisecond, Base: s.Client().Transport})
	if _, _, err := repo(t, c, strings.TrimPrefix(s.URL, "https://"), auth.Credentials{}).Manifest(t.Context(), "tag"); err != nil {
		t.Error(err)
	}
}

func TestRetryHonoursRetryAfter(t *testing.T) {
	var n int
	var first, second time.Time
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		n++
		switch n {
		case 1:
			first = time.Now()
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		case 2:
			second = time.Now()
			w.WriteHeader(http.StatusBadGateway)
		default:
			sendManifest(w)
		}
	})
	if _, _, err := repo(t, quick(), s.URL, auth.Credentials{}).Manifest(t.Context(), "tag"); err != nil {
		t.Fatal(err)
	}
	if wait := second.Sub(first); wait < time.Second || n != 3 {
		t.Errorf("waited %v, asked %d times", wait, n)
	}
}

func TestRateLimitBeyondPatience(t *testing.T) {
	var n int
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		n++
		w.Header().Set("Retry-After", "86400")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit"}]}`)
	})
	_, _, err := repo(t, quick(), s.URL, auth.Credentials{}).Manifest(t.Context(), "tag")
	if !errdefs.Is(err, errdefs.Unavailable) || !strings.Contains(err.Error(), "pull rate limit") || !strings.Contains(errdefs.HintOf(err), "24h") || n != 1 {
		t.Errorf("%v (hint %q) after %d requests", err, errdefs.HintOf(err), n)
	}
}

// TestTokenAuth plays a registry whose token server is at its own origin.
func TestTokenAuth(t *testing.T) {
	for _, cred := range []auth.Credentials{{}, alice} {
		var s *httptest.Server
		tokens := 0
		s = serve(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/token":
				tokens++
				user, pass, _ := r.BasicAuth()
				if user != cred.Username || pass != cred.Password || r.URL.Query().Get("scope") != "repository:a/b:pull" || r.URL.Query().Get("service") != "here" {
					t.Errorf("token request %s as %s:%s", r.URL, user, pass)
				}
				_, _ = io.WriteString(w, `{"token":"t0k"}`)
			case r.Header.Get("Authorization") != "Bearer t0k":
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="here"`, s.URL))
				w.WriteHeader(http.StatusUnauthorized)
			default:
				sendManifest(w)
			}
		})
		r := repo(t, quick(), s.URL, cred)
		for range 3 {
			if _, _, err := r.Manifest(t.Context(), "tag"); err != nil {
				t.Fatal(err)
			}
		}
		if tokens != 1 {
			t.Errorf("%d tokens for one session", tokens)
		}
	}
}

func TestBasicAuth(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if user, pass, _ := r.BasicAuth(); user != "alice" || pass != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		sendManifest(w)
	})
	if _, _, err := repo(t, quick(), s.URL, alice).Manifest(t.Context(), "tag"); err != nil {
		t.Error(err)
	}
	for _, cred := range []auth.Credentials{{}, {Username: "alice", Password: "wrong"}, {RegistryToken: "old"}} {
		_, _, err := repo(t, quick(), s.URL, cred).Manifest(t.Context(), "tag")
		if !errdefs.Is(err, errdefs.Unauthorized) || !strings.Contains(err.Error(), "pull access denied") {
			t.Errorf("%+v: %v", cred, err)
		}
	}
}

// TestForeignRealm is row 42 of the gauntlet: a registry that names somebody
// else's token server does not get the password sent there.
func TestForeignRealm(t *testing.T) {
	var thief seen
	elsewhere := serve(t, func(w http.ResponseWriter, r *http.Request) {
		thief.note(r)
		if strings.Contains(r.URL.Path, "no") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"token":"anonymous"}`)
	})
	path := "/token"
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer anonymous" {
			sendManifest(w)
			return
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s%s"`, elsewhere.URL, path))
		w.WriteHeader(http.StatusUnauthorized)
	})
	if _, _, err := repo(t, quick(), s.URL, alice).Manifest(t.Context(), "tag"); err != nil {
		t.Errorf("an anonymous token would have done: %v", err)
	}
	path = "/no"
	_, _, err := repo(t, quick(), s.URL, auth.Credentials{Username: "alice", Password: "secret", IdentityToken: "id"}).Manifest(t.Context(), "tag")
	if !errdefs.Is(err, errdefs.Unauthorized) || !strings.Contains(errdefs.HintOf(err), "not sent") {
		t.Errorf("refusal: %v (hint %q)", err, errdefs.HintOf(err))
	}
	if len(thief.list) != 2 || thief.leaked() {
		t.Errorf("the foreign token server saw %q", thief.list)
	}
	for _, bad := range []string{"http://example.com/t", "ftp://x/", "//x", "https://u:p@127.0.0.1/", "", "\x00"} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+bad+`"`)
			w.WriteHeader(http.StatusUnauthorized)
		})
		if _, _, err := repo(t, quick(), s.URL, alice).Manifest(t.Context(), "tag"); err == nil {
			t.Errorf("realm %q was taken", bad)
		}
	}
}

// TestRedirectLosesCredentials: a blob's storage elsewhere sees no token, nor
// does another port of the same host.
func TestRedirectLosesCredentials(t *testing.T) {
	data := []byte("layer")
	var storage seen
	elsewhere := serve(t, func(w http.ResponseWriter, r *http.Request) {
		storage.note(r)
		_, _ = w.Write(data)
	})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, elsewhere.URL+"/storage", http.StatusTemporaryRedirect)
	})
	rc, err := repo(t, quick(), s.URL, alice).Blob(t.Context(), ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if got, err := io.ReadAll(rc); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %q, %v", got, err)
	}
	if len(storage.list) != 1 || storage.leaked() {
		t.Errorf("the storage saw %q", storage.list)
	}
}

// TestBlobGoesOn breaks the connection again and again; with and without
// ranges the reader gives every byte once.
func TestBlobGoesOn(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	for _, ranges := range []bool{true, false} {
		n := 0
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			n++
			var from int
			if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil && ranges {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
				w.Header().Set("Content-Length", fmt.Sprint(len(data)-from))
				w.WriteHeader(http.StatusPartialContent)
			} else {
				from = 0
				w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			}
			to := min(len(data), n*len(data)/3) // a bit further each time
			if from < to {
				_, _ = w.Write(data[from:to])
			}
			if to < len(data) {
				panic(http.ErrAbortHandler)
			}
		})
		desc := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
		for _, offset := range []int64{0, 1000, desc.Size} {
			n = 0
			rc, err := repo(t, quick(), s.URL, auth.Credentials{}).Blob(t.Context(), desc, offset)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(rc)
			if err != nil || !bytes.Equal(got, data[offset:]) {
				t.Errorf("ranges %v: from %d: %d bytes, %v", ranges, offset, len(got), err)
			}
			_ = rc.Close()
		}
	}
}

func TestTruncatedBlob(t *testing.T) {
	data := bytes.Repeat([]byte("x"), 1000)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			w.Header().Set("Content-Range", "bytes 500-999/1000")
			w.WriteHeader(http.StatusPartialContent)
			return
		}
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write(data[:500])
	})
	desc := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: 1000}
	rc, err := repo(t, quick(), s.URL, auth.Credentials{}).Blob(t.Context(), desc, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	_, err = io.ReadAll(rc)
	if !errdefs.Is(err, errdefs.DataLoss) || !strings.Contains(err.Error(), "truncated") {
		t.Errorf("error = %v", err)
	}
	// One that announces another size is refused at once.
	desc.Size = 900
	if _, err := repo(t, quick(), s.URL, auth.Credentials{}).Blob(t.Context(), desc, 0); !errdefs.Is(err, errdefs.DataLoss) {
		t.Errorf("other size: %v", err)
	}
}

func TestSilentServer(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write(make([]byte, 10))
		_ = http.NewResponseController(w).Flush()
		<-release
	})
	defer close(release)
	c := New(Options{Backoff: time.Millisecond, Attempts: 2, Stall: 50 * time.Millisecond})
	rc, err := repo(t, c, s.URL, auth.Credentials{}).Blob(t.Context(), ocispec.Descriptor{Digest: digest.FromString(""), Size: 1000}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := io.ReadAll(rc); err == nil {
		t.Error("the end of a silent connection was taken for the end of the blob")
	}
}

func TestCancel(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := repo(t, quick(), s.URL, auth.Credentials{}).Manifest(ctx, "tag")
	if !errdefs.Is(err, errdefs.Cancelled) {
		t.Errorf("error = %v", err)
	}
}

func TestOrigin(t *testing.T) {
	for domain, want := range map[string]string{
		"docker.io": "https://registry-1.docker.io", "ghcr.io": "https://ghcr.io", "localhost:5000": "http://localhost:5000", "127.3.2.1:5000": "http://127.3.2.1:5000",
		"[::1]:5000": "http://[::1]:5000", "localhost.example.com": "https://localhost.example.com", "10.0.0.1:5000": "https://10.0.0.1:5000", "127.0.0.1.example.com": "https://127.0.0.1.example.com",
	} {
		if got := origin(domain).String(); got != want {
			t.Errorf("origin(%s) = %s, want %s", domain, got, want)
		}
	}
	if err := onlyLoopback("tcp", "192.0.2.1:80", nil); !errdefs.Is(err, errdefs.Denied) {
		t.Errorf("plain HTTP to elsewhere: %v", err)
	}
}
