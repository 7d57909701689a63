package pty

import (
	"os"
	"testing"
)

func TestTerminal(t *testing.T) {
	m, s, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	defer s.Close()
	if !IsMaster(int(m.Fd())) || IsMaster(int(s.Fd())) || IsMaster(int(os.Stdin.Fd())) {
		t.Error("master and others are not told apart")
	}
	if err := SetSize(int(m.Fd()), 123, 45); err != nil {
		t.Fatal(err)
	}
	if w, h, err := Size(int(s.Fd())); w != 123 || h != 45 || err != nil {
		t.Errorf("size %d x %d, %v", w, h, err)
	}
	if _, err := m.WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if n, err := s.Read(b); string(b[:n]) != "hello\n" || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := SetSize(int(null.Fd()), 1, 1); err == nil {
		t.Error("resized what is no terminal")
	}
}
