package launch

import (
	"context"
	"log/slog"
	"slices"
)

// undoList collects how to give back what was taken, to be run backwards if
// something later does not succeed.
type undoList struct {
	steps []undoStep
}

type undoStep struct {
	what string
	do   func(context.Context) error
}

func (u *undoList) add(what string, do func(context.Context) error) {
	u.steps = append(u.steps, undoStep{what, do})
}

// run undoes everything, the last first, within its own time. What cannot be
// undone is logged, and found again by the sweep at the next start.
func (u *undoList) run(ctx context.Context, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, undoTimeout)
	defer cancel()
	for _, s := range slices.Backward(u.steps) {
		if err := s.do(ctx); err != nil {
			log.Error("undo a start", "step", s.what, "err", err)
		}
	}
}
