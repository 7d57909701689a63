package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/errdefs"
)

// AtLeast returns a check that there are n arguments or more.
func AtLeast(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		return &UsageError{fmt.Errorf("'%s' requires at least %s", cmd.CommandPath(), arguments(n))}
	}
}

// Exactly returns a check that there are n arguments.
func Exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == n:
			return nil
		case n == 0:
			return &UsageError{fmt.Errorf("'%s' accepts no arguments; got %q", cmd.CommandPath(), args[0])}
		}
		return &UsageError{fmt.Errorf("'%s' requires %s", cmd.CommandPath(), arguments(n))}
	}
}

// AtMost returns a check that there are n arguments or fewer.
func AtMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= n {
			return nil
		}
		return &UsageError{fmt.Errorf("'%s' accepts at most %s", cmd.CommandPath(), arguments(n))}
	}
}

func arguments(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

// atOnce is how many things are asked of the engine at the same time.
const atOnce = 32

// Each calls fn for every argument, many at once, and prints the argument when
// fn succeeds. It goes on when fn fails: one wrong name must not keep the others
// waiting. What is printed keeps the order of the arguments; the error is that
// of all that failed.
func (e *Env) Each(args []string, fn func(arg string) error) error {
	return e.EachPrints(args, func(arg string) (string, error) { return arg, fn(arg) })
}

// EachPrints is Each for commands that print something else than the argument.
// An error that ends lade with status 0 is shown and forgotten.
func (e *Env) EachPrints(args []string, fn func(arg string) (string, error)) error {
	type result struct {
		text string
		err  error
	}
	results := make([]chan result, len(args))
	slots := make(chan struct{}, atOnce)
	for i, arg := range args {
		results[i] = make(chan result, 1)
		go func() {
			slots <- struct{}{}
			text, err := fn(arg)
			results[i] <- result{text, err}
			<-slots
		}()
	}
	var errs []error
	for _, c := range results {
		switch r := <-c; {
		case r.err == nil:
			fmt.Fprintln(e.Out, r.text)
		case ExitStatus(r.err) == 0:
			fmt.Fprintf(e.Err, "lade: %s\n", r.err)
		default:
			errs = append(errs, r.err)
		}
	}
	return Join(errs)
}

// Join makes one error of several. A single one keeps its class and hint.
func Join(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// Filters turns --filter flags, each key=value, into filters.
func Filters(flags []string) (client.Filters, error) {
	f := client.Filters{}
	for _, flag := range flags {
		key, value, ok := strings.Cut(flag, "=")
		if key = strings.ToLower(strings.TrimSpace(key)); !ok || key == "" {
			err := errdefs.New(errdefs.Invalid, "filter %q: want key=value", flag)
			return nil, errdefs.Hint(err, "for example --filter status=exited")
		}
		f[key] = append(f[key], strings.TrimSpace(value))
	}
	return f, nil
}

// CompleteContainers completes names of containers: all of them, or those in
// one of the given states.
func (e *Env) CompleteContainers(states ...string) cobra.CompletionFunc {
	return e.complete(func(ctx context.Context, c *client.Client) ([]string, error) {
		o := client.ListOptions{All: true, Filters: client.Filters{}}
		if len(states) > 0 {
			o.Filters["status"] = states
		}
		list, err := c.ListContainers(ctx, o)
		var names []string
		for _, s := range list {
			for _, n := range s.Names {
				names = append(names, strings.TrimPrefix(n, "/"))
			}
		}
		return names, err
	})
}

// CompleteImages completes names of images.
func (e *Env) CompleteImages() cobra.CompletionFunc {
	return e.complete(func(ctx context.Context, c *client.Client) ([]string, error) {
		list, err := c.ListImages(ctx, client.ListImagesOptions{})
		var names []string
		for _, s := range list {
			names = append(names, s.RepoTags...)
		}
		return names, err
	})
}

// CompleteVolumes completes names of volumes.
func (e *Env) CompleteVolumes() cobra.CompletionFunc {
	return e.complete(func(ctx context.Context, c *client.Client) ([]string, error) {
		list, err := c.ListVolumes(ctx, nil)
		var names []string
		for _, v := range list.Volumes {
			names = append(names, v.Name)
		}
		return names, err
	})
}

// CompleteNames completes what ask returns.
func (e *Env) CompleteNames(ask func(context.Context, *client.Client) ([]string, error)) cobra.CompletionFunc {
	return e.complete(ask)
}

// complete asks a running engine. Pressing Tab starts none, and shows no error.
func (e *Env) complete(ask func(context.Context, *client.Client) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		c, err := e.IdleClient()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		names, err := ask(cmd.Context(), c)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		left := names[:0]
		for _, n := range names {
			if !slices.Contains(args, n) {
				left = append(left, n)
			}
		}
		return left, cobra.ShellCompDirectiveNoFileComp
	}
}

// FormatUsage is the help of --format for lists.
const FormatUsage = `Format output using a custom template:
'table':            Print output in table format with column headers (default)
'table TEMPLATE':   Print output in table format using the given Go template
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template`
