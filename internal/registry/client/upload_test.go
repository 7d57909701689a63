package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/reference"
	"lade/internal/registry/auth"
)

// taker is a registry that takes uploads, and may be made to do so badly.
type taker struct {
	*httptest.Server
	mu       sync.Mutex
	blobs    map[string][]byte // by repository@digest
	sessions map[string][]byte
	asked    []string
	most     int64 // bytes of one request; 0: all
	// before, where set, answers a request in the registry's place if it
	// returns true.
	before func(w http.ResponseWriter, r *http.Request) bool
}

func newTaker(t *testing.T) *taker {
	t.Helper()
	k := &taker{blobs: map[string][]byte{}, sessions: map[string][]byte{}}
	k.Server = serve(t, k.serve)
	return k
}

func (k *taker) serve(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	line := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/v2/")
	k.asked = append(k.asked, line)
	if k.before != nil {
		k.mu.Unlock() // it may take its time
		answered := k.before(w, r)
		k.mu.Lock()
		if answered {
			return
		}
	}
	if k.most > 0 && r.ContentLength > k.most {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	repo, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/")
	id := strings.TrimPrefix(rest, "uploads/")
	switch {
	case r.Method == http.MethodPost && r.URL.Query().Has("mount"):
		from, ok := k.blobs[r.URL.Query().Get("from")+"@"+r.URL.Query().Get("mount")]
		if ok {
			k.blobs[repo+"@"+r.URL.Query().Get("mount")] = from
			w.WriteHeader(http.StatusCreated)
			return
		}
		fallthrough
	case r.Method == http.MethodPost:
		id = fmt.Sprint("s", len(k.asked))
		k.sessions[id] = []byte{}
		w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/"+id+"?state=1")
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodHead:
		data, ok := k.blobs[repo+"@"+rest]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
	case r.Method == http.MethodGet && k.sessions[id] != nil:
		w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, len(k.sessions[id])-1))) // as docker's registry says nothing
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPatch:
		var start, end int
		if _, err := fmt.Sscanf(r.Header.Get("Content-Range"), "%d-%d", &start, &end); err != nil || start != len(k.sessions[id]) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		k.take(id, r)
		w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/"+id+"?state=2")
		w.Header().Set("Range", fmt.Sprintf("0-%d", len(k.sessions[id])-1))
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPut && strings.HasPrefix(rest, "uploads/"):
		if !r.URL.Query().Has("state") {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		k.take(id, r)
		want := r.URL.Query().Get("digest")
		if string(digest.FromBytes(k.sessions[id])) != want {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match uploaded content"}]}`)
			return
		}
		k.blobs[repo+"@"+want] = k.sessions[id]
		delete(k.sessions, id)
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodDelete:
		delete(k.sessions, id)
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (k *taker) take(id string, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	k.sessions[id] = append(k.sessions[id], b...)
}

func (k *taker) count(method string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for _, a := range k.asked {
		if strings.HasPrefix(a, method+" ") {
			n++
		}
	}
	return n
}

func target(t *testing.T, server string, o Options, from ...string) *Repository {
	t.Helper()
	ref, err := reference.Parse(strings.TrimPrefix(server, "http://") + "/a/b:tag")
	if err != nil {
		t.Fatal(err)
	}
	if o.Backoff == 0 {
		o.Backoff = time.Millisecond
	}
	c := New(o)
	t.Cleanup(c.Close)
	r, err := c.Target(ref, auth.Credentials{}, from...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func blobOf(data []byte) (ocispec.Descriptor, Opener) {
	d := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	return d, func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data[offset:])), nil
	}
}

func TestUploadAtOnce(t *testing.T) {
	for _, size := range []int{0, 1, 100000} {
		k := newTaker(t)
		r := target(t, k.URL, Options{})
		d, open := blobOf(make([]byte, size))
		var last int64
		if _, err := r.Upload(t.Context(), d, open, UploadOptions{Note: func(n int64) { last = n }}); err != nil {
			t.Fatal(err)
		}
		if got, ok := k.blobs["a/b@"+string(d.Digest)]; !ok || len(got) != size || k.count("PUT") != 1 || k.count("PATCH") != 0 || last != int64(size) {
			t.Errorf("size %d: %d bytes, noted %d, after %q", size, len(got), last, k.asked)
		}
		if there, err := r.HasBlob(t.Context(), d); err != nil || !there {
			t.Errorf("HasBlob = %v, %v", there, err)
		}
		other := ocispec.Descriptor{Digest: d.Digest, Size: d.Size + 1}
		if there, err := r.HasBlob(t.Context(), other); err != nil || there {
			t.Errorf("HasBlob of another size = %v, %v", there, err)
		}
	}
}

func TestUploadMounts(t *testing.T) {
	k := newTaker(t)
	d, open := blobOf([]byte("layer"))
	k.blobs["there@"+string(d.Digest)] = []byte("layer")
	from, err := target(t, k.URL, Options{}).Upload(t.Context(), d, open, UploadOptions{From: []string{"notthere", "there"}})
	if err != nil || from != "there" || k.count("PUT") != 0 || len(k.sessions) != 0 {
		t.Errorf("mounted from %q, %v; %q, sessions %v", from, err, k.asked, k.sessions)
	}
	k.asked = nil
	d, open = blobOf([]byte("another"))
	from, err = target(t, k.URL, Options{}).Upload(t.Context(), d, open, UploadOptions{From: []string{"there"}})
	if err != nil || from != "" || k.count("POST") != 1 || len(k.sessions) != 0 {
		t.Errorf("what cannot be mounted: %q, %v; %q", from, err, k.asked)
	}
}

// TestUploadInParts: a proxy that takes 3 MiB at once gets no more.
func TestUploadInParts(t *testing.T) {
	k := newTaker(t)
	k.most = 3 << 20
	data := bytes.Repeat([]byte("0123456789abcdef"), 10<<20/16)
	d, open := blobOf(data)
	if _, err := target(t, k.URL, Options{}).Upload(t.Context(), d, open, UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(k.blobs["a/b@"+string(d.Digest)], data) || k.count("PATCH") < 4 {
		t.Errorf("after %q", k.asked)
	}
	k = newTaker(t)
	k.most = 1000
	_, err := target(t, k.URL, Options{}).Upload(t.Context(), d, open, UploadOptions{})
	if !errdefs.Is(err, errdefs.Invalid) || len(k.sessions) != 0 {
		t.Errorf("a registry that takes nothing: %v; sessions left: %d", err, len(k.sessions))
	}
}

// TestUploadGoesOn: a connection that breaks in the middle, after which the
// registry has a part.
func TestUploadGoesOn(t *testing.T) {
	k := newTaker(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	d, open := blobOf(data)
	broken := 0
	k.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut && r.Method != http.MethodPatch || r.ContentLength == 0 || broken == 3 {
			return false
		}
		broken++
		id := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		part := make([]byte, 200000)
		_, _ = io.ReadFull(r.Body, part)
		k.sessions[id] = append(k.sessions[id], part...)
		k.mu.Lock() // for the one that gives it back
		panic(http.ErrAbortHandler)
	}
	// Three breaks with two attempts: each time it got further.
	if _, err := target(t, k.URL, Options{Attempts: 2}).Upload(t.Context(), d, open, UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(k.blobs["a/b@"+string(d.Digest)], data) || broken != 3 || k.count("POST") != 1 {
		t.Errorf("%d breaks, %q", broken, k.asked)
	}
}

// TestUploadBeginsAgain: the registry was restarted and forgot the session.
func TestUploadBeginsAgain(t *testing.T) {
	k := newTaker(t)
	d, open := blobOf([]byte("some layer"))
	once := false
	k.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || once {
			return false
		}
		once = true
		clear(k.sessions)
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	if _, err := target(t, k.URL, Options{}).Upload(t.Context(), d, open, UploadOptions{}); err != nil || len(k.blobs) != 1 || k.count("POST") != 2 {
		t.Errorf("%v; %q", err, k.asked)
	}
}

// TestUploadLies: what a registry may do wrong ends in a plain error, soon, and
// the session is closed.
func TestUploadLies(t *testing.T) {
	var thief seen
	elsewhere := serve(t, func(w http.ResponseWriter, r *http.Request) {
		thief.note(r)
		w.WriteHeader(http.StatusCreated)
	})
	over := make(chan struct{}) // the end of a test
	d, open := blobOf(bytes.Repeat([]byte("x"), 8<<20))
	tests := []struct {
		name   string
		before func(w http.ResponseWriter, r *http.Request) bool
		class  errdefs.Class
		says   string
	}{
		{"no location", func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusAccepted)
			return true
		}, errdefs.Unavailable, "does not say where"},
		{"location with a password", func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", "http://u:p@127.0.0.1/x")
			w.WriteHeader(http.StatusAccepted)
			return true
		}, errdefs.Denied, "not a place"},
		{"location that is none", func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusAccepted)
			return true
		}, errdefs.Denied, "not a place"},
		{"another digest", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Docker-Content-Digest", "sha256:0000")
			w.WriteHeader(http.StatusCreated)
			return true
		}, errdefs.DataLoss, "took blob"},
		{"wrong range", func(w http.ResponseWriter, r *http.Request) bool {
			switch r.Method {
			case http.MethodPut:
				w.WriteHeader(http.StatusBadGateway)
			case http.MethodGet:
				w.Header().Set("Range", "0-8388608")
				w.WriteHeader(http.StatusNoContent)
			default:
				return false
			}
			return true
		}, errdefs.DataLoss, "says that it has"},
		{"always in trouble", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut {
				w.WriteHeader(http.StatusInternalServerError)
			}
			return r.Method == http.MethodPut
		}, errdefs.Unavailable, "in trouble"},
		{"rate limit", func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Retry-After", "7200")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}, errdefs.Unavailable, "too many requests"},
		{"no password", func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`)
			return true
		}, errdefs.Unauthorized, "push access denied for"},
		{"takes no bytes", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut {
				<-over
			}
			return r.Method == http.MethodPut
		}, errdefs.Unavailable, "no more bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newTaker(t)
			k.before = tt.before
			over = make(chan struct{})
			t.Cleanup(func() { close(over) })
			_, err := target(t, k.URL, Options{Attempts: 2, Stall: 20 * time.Millisecond}).Upload(t.Context(), d, open, UploadOptions{})
			if !errdefs.Is(err, tt.class) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error = %v (%v), want %q (%v)", err, errdefs.ClassOf(err), tt.says, tt.class)
			}
			if len(k.blobs) != 0 {
				t.Error("the registry has a blob")
			}
		})
	}
	// The bytes may go elsewhere, as to a storage service; credentials do not.
	k := newTaker(t)
	k.before = func(w http.ResponseWriter, r *http.Request) bool {
		if _, _, ok := r.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		w.Header().Set("Location", elsewhere.URL+"/storage?sig=1")
		w.WriteHeader(http.StatusAccepted)
		return true
	}
	ref, _ := reference.Parse(strings.TrimPrefix(k.URL, "http://") + "/a/b:tag")
	c := New(Options{Backoff: time.Millisecond})
	t.Cleanup(c.Close)
	own, err := c.Target(ref, alice)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := own.Upload(t.Context(), d, open, UploadOptions{}); err != nil {
		t.Error(err)
	}
	if len(thief.list) != 1 || thief.leaked() {
		t.Errorf("the other origin saw %q", thief.list)
	}
}

// TestUploadScopes: the token is asked for pushing here and pulling there.
func TestUploadScopes(t *testing.T) {
	var scopes []string
	var s *httptest.Server
	s = serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			scopes = r.URL.Query()["scope"]
			_, _ = io.WriteString(w, `{"token":"t"}`)
		case r.Header.Get("Authorization") != "Bearer t":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token"`, s.URL))
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	if err := target(t, s.URL, Options{}, "c/d").Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(scopes) != "[repository:a/b:pull,push repository:c/d:pull]" {
		t.Errorf("scopes %q", scopes)
	}
}

func TestPutManifest(t *testing.T) {
	raw := []byte(manifest)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	said, status, body := "", http.StatusCreated, ""
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPut || string(got) != manifest || r.Header.Get("Content-Type") != desc.MediaType {
			t.Errorf("%s %s %q", r.Method, r.URL, got)
		}
		w.Header().Set("Docker-Content-Digest", said)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
	put := func() error { return target(t, s.URL, Options{}).PutManifest(t.Context(), "tag", desc, raw) }
	if err := put(); err != nil {
		t.Error(err)
	}
	said = string(digest.FromString("other"))
	if err := put(); !errdefs.Is(err, errdefs.DataLoss) {
		t.Errorf("another digest: %v", err)
	}
	status, body = http.StatusNotFound, `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}`
	if err := put(); err == nil || !strings.Contains(err.Error(), "blob unknown") {
		t.Errorf("a registry that forgot a blob: %v", err)
	}
}

// TestLogin: a token server that gives an identity token is asked for one, and
// what it gives stands for the password from then on.
func TestLogin(t *testing.T) {
	var s *httptest.Server
	s = serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token" && r.Method == http.MethodPost:
			if r.PostFormValue("refresh_token") != "identity" || r.PostFormValue("grant_type") != "refresh_token" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_, _ = io.WriteString(w, `{"access_token":"t"}`)
		case r.URL.Path == "/token":
			if user, password, _ := r.BasicAuth(); user != "alice" || password != "secret" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			if q := r.URL.Query(); q.Get("offline_token") != "true" || q.Get("account") != "alice" || q.Has("scope") {
				t.Errorf("asked for %s", r.URL)
			}
			_, _ = io.WriteString(w, `{"token":"t","refresh_token":"identity"}`)
		case r.Header.Get("Authorization") != "Bearer t":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="x"`, s.URL))
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	c := New(Options{Backoff: time.Millisecond})
	t.Cleanup(c.Close)
	domain := strings.TrimPrefix(s.URL, "http://")
	if token, err := c.Login(t.Context(), domain, alice); err != nil || token != "identity" {
		t.Errorf("login: %q, %v", token, err)
	}
	if _, err := c.Login(t.Context(), domain, auth.Credentials{IdentityToken: "identity"}); err != nil {
		t.Errorf("with the token: %v", err)
	}
	for _, bad := range []auth.Credentials{{Username: "alice", Password: "guess"}, {IdentityToken: "old"}} {
		if _, err := c.Login(t.Context(), domain, bad); !errdefs.Is(err, errdefs.Unauthorized) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
