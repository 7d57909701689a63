package errdefs

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestClassOf(t *testing.T) {
	base := errors.New("boom")
	tests := []struct {
		name string
		err  error
		want Class
	}{
		{"plain", base, Internal},
		{"new", New(NotFound, "no such image: %s", "x"), NotFound},
		{"wrapped", fmt.Errorf("pull: %w", New(Unavailable, "down")), Unavailable},
		{"outermost wins", With(Invalid, New(NotFound, "x")), Invalid},
		{"hinted", Hint(New(Conflict, "taken"), "choose another"), Conflict},
		{"context", fmt.Errorf("wait: %w", context.Canceled), Cancelled},
		{"deadline", context.DeadlineExceeded, Cancelled},
		{"class beats context", With(Unavailable, context.DeadlineExceeded), Unavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := ClassOf(tt.err); got != tt.want {
				t.Errorf("ClassOf(%v) = %v, want %v", tt.err, got, tt.want)
			}
			if !Is(tt.err, tt.want) {
				t.Errorf("Is(%v, %v) = false", tt.err, tt.want)
			}
		})
	}
	if Is(nil, Internal) || With(Invalid, nil) != nil || Hint(nil, "x") != nil {
		t.Error("nil must stay nil and have no class")
	}
}

func TestHintKeepsCauseAndMessage(t *testing.T) {
	sentinel := errors.New("sentinel")
	err := fmt.Errorf("run x: %w", Hint(New(NotFound, "open: %w", sentinel), "pull it first"))
	if !errors.Is(err, sentinel) {
		t.Error("the cause is lost")
	}
	if got, want := Message(err), "run x: open: sentinel; pull it first"; got != want {
		t.Errorf("Message = %q, want %q", got, want)
	}
}
