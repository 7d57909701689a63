package container

import (
	"context"

	"lade/internal/runtime/plan"
	"lade/internal/runtime/program"
)

// Mutation takes a defence away. Nothing but tests makes one: a test of an
// attack proves something only if the attack succeeds without the defence.
type Mutation struct {
	// Unchecked plans what the planner refuses otherwise.
	Unchecked bool
	// Unsealed leaves the executor's image writable.
	Unsealed bool
	// Facts, if set, changes what is known of the machine.
	Facts func(*plan.Facts)
	// Program, if set, changes the program before it is carried out.
	Program func(*program.Program)
}

type mutationKey struct{}

// WithMutation returns a context in which creations lack a defence.
func WithMutation(ctx context.Context, m Mutation) context.Context {
	return context.WithValue(ctx, mutationKey{}, m)
}

func mutation(ctx context.Context) Mutation {
	m, _ := ctx.Value(mutationKey{}).(Mutation)
	return m
}
