package contexts

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lade/internal/errdefs"
)

func TestStore(t *testing.T) {
	s := New(filepath.Join(t.TempDir(), "lade"))
	if s.Current() != Default {
		t.Errorf("the first context is %s", s.Current())
	}
	far := Context{Name: "far", Description: "another machine", Host: "unix:///tmp/far.sock"}
	if err := s.Create(far); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(far); !errdefs.Is(err, errdefs.Conflict) {
		t.Errorf("made twice: %v", err)
	}
	if got, err := s.Get("far"); err != nil || got != far {
		t.Errorf("got %+v, %v", got, err)
	}
	far.Host = "unix:///tmp/other.sock"
	if err := s.Update(far); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Get("far"); got != far {
		t.Errorf("after update: %+v", got)
	}
	if err := s.Use("far"); err != nil || s.Current() != "far" {
		t.Errorf("use: %v, now %s", err, s.Current())
	}
	if names, err := s.List(); err != nil || !cmp.Equal(names, []string{"default", "far"}) {
		t.Errorf("list: %v %v", names, err)
	}
	if err := s.Remove("far"); err != nil || s.Current() != Default {
		t.Errorf("removed: %v, now %s", err, s.Current())
	}
	if _, err := s.Get("far"); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("get of none: %v", err)
	}
	for _, err := range []error{s.Use("far"), s.Remove("far"), s.Update(far), s.Remove(Default), s.Create(Context{Name: Default, Host: far.Host})} {
		if err == nil {
			t.Error("no error")
		}
	}
	left, _ := os.ReadDir(filepath.Join(s.dir, "contexts"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestStoreBadInput: no name is a path, and no host is one that would be
// taken for something else.
func TestStoreBadInput(t *testing.T) {
	s := New(t.TempDir())
	for _, name := range []string{"", "a", "../x", "a/b", ".hidden", "ab\n", strings.Repeat("n", 200)} {
		if err := s.Create(Context{Name: name, Host: "unix:///s"}); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("name %q: %v", name, err)
		}
		if _, err := s.Get(name); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("get %q: %v", name, err)
		}
	}
	for _, host := range []string{"", "/run/s", "unix://", "tcp://127.0.0.1:1", "ssh://me@there"} {
		if err := s.Create(Context{Name: "good", Host: host}); err == nil {
			t.Errorf("host %q was taken", host)
		}
	}
	if err := s.Create(Context{Name: "good", Host: "unix:///s"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Path("good"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("good"); !errdefs.Is(err, errdefs.DataLoss) {
		t.Errorf("a damaged file: %v", err)
	}
}

// TestCreateAtOnce: of many that make a context of one name, one does.
func TestCreateAtOnce(t *testing.T) {
	s := New(t.TempDir())
	var wg sync.WaitGroup
	made := make([]bool, 20)
	for i := range made {
		wg.Go(func() { made[i] = s.Create(Context{Name: "one", Host: fmt.Sprintf("unix:///%d", i)}) == nil })
	}
	wg.Wait()
	count := 0
	for i, ok := range made {
		if !ok {
			continue
		}
		count++
		if c, _ := s.Get("one"); c.Host != fmt.Sprintf("unix:///%d", i) {
			t.Errorf("%d made it, and it says %s", i, c.Host)
		}
	}
	if count != 1 {
		t.Errorf("%d made it", count)
	}
}

func TestArchive(t *testing.T) {
	far := Context{Name: "far", Description: "another machine", Host: "unix:///tmp/far.sock"}
	var b bytes.Buffer
	if err := far.Export(&b); err != nil {
		t.Fatal(err)
	}
	got, err := Import("near", bytes.NewReader(b.Bytes()))
	far.Name = "near"
	if err != nil || got != far {
		t.Errorf("got %+v, %v", got, err)
	}
	for what, archive := range map[string][]byte{
		"empty": nil, "no tar": []byte("what is this"), "another file": archiveOf(t, "x", "{}"),
		"no JSON": archiveOf(t, "meta.json", "{"), "no endpoint": archiveOf(t, "meta.json", "{}"),
		"distant": archiveOf(t, "meta.json", `{"Endpoints":{"docker":{"Host":"tcp://1.2.3.4:2376"}}}`),
	} {
		if _, err := Import("near", bytes.NewReader(archive)); err == nil {
			t.Errorf("%s: was imported", what)
		}
	}
}

func archiveOf(tb testing.TB, name, text string) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644}); err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func FuzzImport(f *testing.F) {
	f.Add(archiveOf(f, "meta.json", `{"Name":"a","Endpoints":{"docker":{"Host":"unix:///s"}}}`))
	f.Add(archiveOf(f, "tls/docker/key.pem", "x"))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := Import("some", bytes.NewReader(b)); err == nil && CheckHost(c.Host) != nil {
			t.Errorf("took host %q", c.Host)
		}
	})
}
