package attach

import (
	"context"
	"os"
	"os/signal"
)

// impatient is how many interrupts in a row end lade itself, when the container
// does not care or the engine does not answer.
const impatient = 3

// Forward says what to do with the signals that lade gets.
type Forward struct {
	Started <-chan struct{}                              // signals wait until it is closed
	Kill    func(ctx context.Context, name string) error // pass a signal on
	GiveUp  func()                                       // at the third interrupt or termination
}

// Signals passes the signals that this process gets on, in order, until the
// function that it returns is called.
func (f Forward) Signals(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	// Room for a burst: os/signal drops what does not fit.
	got := make(chan os.Signal, 64)
	signal.Notify(got, forwarded()...)
	// In a goroutine of its own: an engine that hangs must not keep the third
	// interrupt from being seen.
	queue := make(chan string, cap(got))
	go f.send(ctx, queue)
	go func() {
		pressed := 0
		for {
			select {
			case <-ctx.Done():
				return
			case sig := <-got:
				if isStop(sig) {
					if pressed++; pressed >= impatient {
						f.GiveUp()
						return
					}
				}
				select {
				case queue <- signalName(sig):
				default:
				}
			}
		}
	}()
	return func() {
		signal.Stop(got)
		cancel()
	}
}

func (f Forward) send(ctx context.Context, queue <-chan string) {
	select {
	case <-ctx.Done():
		return
	case <-f.Started:
	}
	for {
		select {
		case <-ctx.Done():
			return
		case name := <-queue:
			_ = f.Kill(ctx, name) // the container may be gone; its exit code says so
		}
	}
}
