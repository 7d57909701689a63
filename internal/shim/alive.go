package shim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"lade/internal/errdefs"
)

// A shim's standard error, a file in its bundle, is locked before the shim is
// cloned, and the lock belongs to the open file: the clone has it, the program
// has it, and the kernel takes it back when the last of them is gone. What runs
// for a bundle can so be told from what does not, also in the moments in which
// nothing listens on its socket: when who launched the shim was killed, it is
// still on its way, with a request for a container before it that it will find.

// aliveEvery is how often one looks for a shim that is on its way, or leaves:
// neither tells those that it does not know.
const aliveEvery = 5 * time.Millisecond

// openWords opens and locks what is to be the standard error of a shim.
func openWords(bundle string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(bundle, StderrName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if err := tryLock(f); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errdefs.Hint(errdefs.New(errdefs.Conflict, "%s has a shim that has not left", bundle), "try again in a moment")
		}
		return nil, err
	}
	return f, nil
}

// Alive reports whether a shim of a bundle is on its way, runs, or has yet to
// leave.
func Alive(bundle string) (bool, error) {
	f, err := os.Open(filepath.Join(bundle, StderrName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // it is made before the shim is
	}
	if err != nil {
		return false, fmt.Errorf("look for a shim: %w", err)
	}
	defer f.Close()
	err = tryLock(f)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for a shim of %s: %w", bundle, err)
	}
	return false, nil
}

func tryLock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// Dial connects to the shim of a bundle, and waits for one that is on its way,
// or about to leave. When there is none, the error is of class NotFound: no
// process works for the bundle then, and none will. Any other error says that
// this is not known.
func Dial(ctx context.Context, bundle string) (*Conn, error) {
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for {
		c, err := dial(ctx, bundle)
		if err == nil || !errdefs.Is(err, errdefs.NotFound) {
			return c, err
		}
		if alive, lockErr := Alive(bundle); lockErr != nil || !alive {
			return nil, errors.Join(lockErr, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errdefs.New(errdefs.Unavailable, "the shim of %s neither speaks nor leaves: %w", bundle, context.Cause(ctx))
		}
	}
}
