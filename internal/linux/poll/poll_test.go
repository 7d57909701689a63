package poll

import (
	"syscall"
	"testing"
	"time"
)

func TestPoller(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fds[0])
	wait := func(want Events) {
		t.Helper()
		got, err := p.Wait(10 * time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if want == 0 && len(got) != 0 || want != 0 && (len(got) != 1 || got[0] != Event{fds[0], want}) {
			t.Errorf("ready: %v, want %v", got, want)
		}
	}
	if err := p.Add(fds[0], In); err != nil {
		t.Fatal(err)
	}
	wait(0)
	if _, err := syscall.Write(fds[1], []byte("x")); err != nil {
		t.Fatal(err)
	}
	wait(In)
	wait(In) // still
	if err := p.Modify(fds[0], HalfHup); err != nil {
		t.Fatal(err)
	}
	wait(0)
	_ = syscall.Close(fds[1])
	wait(HangUp) // though nobody asked
	if err := p.Remove(fds[0]); err != nil {
		t.Fatal(err)
	}
	wait(0)
	if err := p.Remove(fds[0]); err == nil {
		t.Error("removed twice")
	}
}

func TestWaker(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	w, err := NewWaker()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := p.Add(w.FD(), In); err != nil {
		t.Fatal(err)
	}
	go w.Wake()
	if got, err := p.Wait(-1); err != nil || len(got) != 1 {
		t.Fatalf("ready: %v, %v", got, err)
	}
	w.Wake()
	w.Drain()
	if got, err := p.Wait(0); err != nil || len(got) != 0 {
		t.Errorf("after Drain: %v, %v", got, err)
	}
}
