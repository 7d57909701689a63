package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/jsonstream"

	"lade/internal/errdefs"
)

// engine serves h on a Unix socket and returns a client of it.
func engine(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	c, err := New("unix://" + socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestErrorsHaveClassAndMessage(t *testing.T) {
	for _, test := range []struct {
		status  int
		body    string
		class   errdefs.Class
		message string
	}{
		{404, `{"message":"no such container: x"}`, errdefs.NotFound, "no such container: x"},
		{400, `{"message":"bad; write it better"}`, errdefs.Invalid, "bad; write it better"},
		{409, `{"message":"taken"}`, errdefs.Conflict, "taken"},
		{403, `{"message":"no"}`, errdefs.Denied, "no"},
		{503, `{"message":"later"}`, errdefs.Unavailable, "later"},
		{507, `{"message":"full"}`, errdefs.Exhausted, "full"},
		{501, `{"message":"cannot"}`, errdefs.NotImplemented, "cannot"},
		{500, `{"message":"oops"}`, errdefs.Internal, "oops"},
		{500, "plain text\n", errdefs.Internal, "plain text"},
		{502, "", errdefs.Unavailable, "the engine answered 502 Bad Gateway"},
		{304, "", errdefs.NotModified, "it is already so"},
	} {
		c := engine(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
		})
		err := c.KillContainer(t.Context(), "x", "TERM")
		if errdefs.ClassOf(err) != test.class || err.Error() != test.message || errors.Is(err, ErrConnection) {
			t.Errorf("%d %q: %v of class %v; want %q of class %v", test.status, test.body, err, errdefs.ClassOf(err), test.message, test.class)
		}
	}
}

// TestConnectionErrors: whatever happens to the connection is told apart from
// what the engine answers.
func TestConnectionErrors(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"before an answer": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"within the answer": func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"within the JSON": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"Id":"4c`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		c := engine(t, h)
		if _, err := c.InspectContainer(t.Context(), "x"); !errors.Is(err, ErrConnection) || !errdefs.Is(err, errdefs.Unavailable) {
			t.Errorf("%s: %v, want ErrConnection", name, err)
		}
	}
	c, err := New("unix://" + filepath.Join(t.TempDir(), "nobody"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(t.Context()); !errors.Is(err, ErrConnection) {
		t.Errorf("no socket: %v, want ErrConnection", err)
	}
	if _, err := c.AttachContainer(t.Context(), "x", AttachOptions{}); !errors.Is(err, ErrConnection) {
		t.Errorf("attach without a socket: %v, want ErrConnection", err)
	}
	c = engine(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })
	if _, err := c.InspectContainer(t.Context(), "x"); err == nil || errors.Is(err, ErrConnection) {
		t.Errorf("an answer that is no JSON: %v, want an error that is no ErrConnection", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Ping(ctx); !errdefs.Is(err, errdefs.Cancelled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestOnlySafeCallsAreSentAgain: an engine that dies under a call is asked again
// for what it knows, and never again to do something.
func TestOnlySafeCallsAreSentAgain(t *testing.T) {
	var calls atomic.Int32
	c := engine(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) < 3 {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, `{"Id":"4c01"}`)
	})
	if got, err := c.InspectContainer(t.Context(), "x"); err != nil || got.ID != "4c01" || calls.Load() != 3 {
		t.Errorf("inspect: %q, %v after %d calls; want an answer to the third", got.ID, err, calls.Load())
	}
	calls.Store(0)
	if _, err := c.CreateContainer(t.Context(), container.CreateRequest{}, CreateOptions{}); !errors.Is(err, ErrConnection) || calls.Load() != 1 {
		t.Errorf("create: %v after %d calls; want ErrConnection after one", err, calls.Load())
	}
}

func TestStream(t *testing.T) {
	c := engine(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "absent") {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"message":"no such container"}`)
			return
		}
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		// Output right behind the headers must not be lost.
		_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nhello ")
		in, _ := io.ReadAll(buf)
		_, _ = conn.Write(in)
	})
	s, err := c.AttachContainer(t.Context(), "x", AttachOptions{Stdin: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	big := strings.Repeat("0123456789abcdef", 1<<16)
	go func() {
		_, _ = io.WriteString(s, big)
		_ = s.CloseWrite()
	}()
	var out strings.Builder
	if err := s.Copy(&out, io.Discard); err != nil || out.String() != "hello "+big || s.Mux() {
		t.Errorf("read %d bytes, %v, multiplexed %t; want what was written and %d more", out.Len(), err, s.Mux(), len("hello "))
	}
	if _, err := c.AttachContainer(t.Context(), "absent", AttachOptions{}); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("absent: %v, want NotFound", err)
	}
}

func TestWait(t *testing.T) {
	for body, want := range map[string]struct {
		code int
		lost bool
		err  string
	}{
		`{"StatusCode":137}`: {code: 137},
		`{"StatusCode":255,"Error":{"Message":"nobody saw it end"}}`: {code: 255, err: "nobody saw it end"},
		`{"StatusCode":-1,"Error":{"Message":"shutting down"}}`:      {lost: true, err: "shutting down"},
		``: {lost: true, err: "EOF"},
	} {
		c := engine(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		w, err := c.WaitContainer(t.Context(), "x", container.WaitConditionNextExit)
		if err != nil {
			t.Fatal(err)
		}
		code, err := w.Result()
		if code != want.code || errors.Is(err, ErrConnection) != want.lost || (err == nil) != (want.err == "") || err != nil && !strings.Contains(err.Error(), want.err) {
			t.Errorf("%s: %d, %v; want %+v", body, code, err, want)
		}
	}
}

func TestPullReportsTheErrorInTheStream(t *testing.T) {
	c := engine(t, func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); q.Get("fromImage") != "localhost:5000/a" || q.Get("tag") != "1" {
			t.Errorf("asked for %v", q)
		}
		_, _ = io.WriteString(w, `{"status":"Pulling"}`+"\r\n"+`{"errorDetail":{"code":404,"message":"not there"},"error":"not there"}`)
	})
	var seen []string
	err := c.PullImage(t.Context(), PullOptions{Ref: "localhost:5000/a:1"}, func(m jsonstream.Message) { seen = append(seen, m.Status) })
	if !errdefs.Is(err, errdefs.NotFound) || err.Error() != "not there" || len(seen) != 1 {
		t.Errorf("%v after %q; want not there", err, seen)
	}
}

func TestSplitRef(t *testing.T) {
	for ref, want := range map[string][2]string{
		"debian": {"debian", ""}, "debian:12": {"debian", "12"}, "localhost:5000/a/b": {"localhost:5000/a/b", ""},
		"localhost:5000/a:1": {"localhost:5000/a", "1"}, "a@sha256:12": {"a", "sha256:12"},
	} {
		if name, tag := splitRef(ref); [2]string{name, tag} != want {
			t.Errorf("splitRef(%q) = %q, %q; want %q", ref, name, tag, want)
		}
	}
}

func TestHost(t *testing.T) {
	for _, bad := range []string{"", "/run/x", "tcp://localhost:1", "unix://relative"} {
		if _, err := New(bad); !errdefs.Is(err, errdefs.Invalid) || errdefs.HintOf(err) == "" {
			t.Errorf("New(%q): %v, want Invalid with a hint", bad, err)
		}
	}
	t.Setenv("LADE_HOST", "")
	t.Setenv("LADE_STATE_DIR", "/x")
	if got := DefaultHost(); got != "unix:///x/lade.sock" {
		t.Errorf("DefaultHost() = %q", got)
	}
	t.Setenv("LADE_HOST", "unix:///y")
	if got := DefaultHost(); got != "unix:///y" {
		t.Errorf("DefaultHost() = %q", got)
	}
}
