package inotify

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWait(t *testing.T) {
	dir := t.TempDir()
	w, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	file := filepath.Join(dir, "f")
	for name, change := range map[string]func() error{
		"make":   func() error { return os.WriteFile(file, nil, 0o600) },
		"write":  func() error { return os.WriteFile(file, []byte("x"), 0o600) },
		"remove": func() error { return os.Remove(file) },
	} {
		if name == "remove" {
			_ = os.WriteFile(file, nil, 0o600)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if err := w.Wait(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	drain(t, w)

	// A wait that was given up does not spoil the next.
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		if err := w.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("given up: %v", err)
		}
	}
	go func() { _ = os.WriteFile(file, nil, 0o600) }()
	if err := w.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func drain(t *testing.T, w *Watcher) {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		err := w.Wait(ctx)
		cancel()
		if err != nil {
			return
		}
	}
}

func TestNew(t *testing.T) {
	if _, err := New(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}
