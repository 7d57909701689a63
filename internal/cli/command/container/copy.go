package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	api "github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/archive"
	"lade/internal/cli/command"
	"lade/internal/cli/format"
	"lade/internal/errdefs"
)

type copyOptions struct {
	archive, follow, quiet bool
}

// NewCopy returns the command cp.
func NewCopy(env *command.Env) *cobra.Command {
	var o copyOptions
	cmd := &cobra.Command{
		Use:   "cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n        lade cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
		Short: "Copy files/folders between a container and the local filesystem",
		Long: "Copy files/folders between a container and the local filesystem, also of a container that does not run.\n\n" +
			"Use '-' as the source to read a tar archive from stdin and unpack it in a directory of the container.\n" +
			"Use '-' as the destination to write a tar archive of the container's files to stdout.",
		Args:              command.Exactly(2),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), env, args[0], args[1]) },
	}
	fs := cmd.Flags()
	fs.BoolVarP(&o.archive, "archive", "a", false, "Archive mode (copy all uid/gid information)")
	fs.BoolVarP(&o.follow, "follow-link", "L", false, "Always follow symbol link in SRC_PATH")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached")
	return cmd
}

// splitPlace parts CONTAINER:PATH. A path that is absolute, or begins with a
// dot, is one of this machine, whatever colons it has.
func splitPlace(s string) (container, p string) {
	container, p, ok := strings.Cut(s, ":")
	if filepath.IsAbs(s) || !ok || strings.HasPrefix(container, ".") {
		return "", s
	}
	return container, p
}

func (o *copyOptions) run(ctx context.Context, env *command.Env, from, to string) error {
	source, sourcePath := splitPlace(from)
	target, targetPath := splitPlace(to)
	switch {
	case source != "" && target != "":
		return errdefs.New(errdefs.Invalid, "copying between containers is not supported")
	case source == "" && target == "":
		return errdefs.New(errdefs.Invalid, "must specify at least one container source")
	case sourcePath == "" || targetPath == "":
		return errdefs.New(errdefs.Invalid, "a path is empty: want CONTAINER:PATH")
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	if source != "" {
		return o.out(ctx, env, c, place{source, sourcePath}, targetPath)
	}
	return o.in(ctx, env, c, sourcePath, place{target, targetPath})
}

// place is a path in a container.
type place struct{ container, path string }

// counted counts the bytes that are read.
type counted struct {
	io.Reader
	n int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += int64(n)
	return n, err
}

func (o *copyOptions) done(env *command.Env, n int64, to string) {
	if !o.quiet {
		fmt.Fprintf(env.Err, "Successfully copied %s to %s\n", format.Size(n), to)
	}
}

// out copies from a container.
func (o *copyOptions) out(ctx context.Context, env *command.Env, c *client.Client, src place, dst string) error {
	_, name := archive.Split(src.path) // that the copy is to have
	top := name                        // that the archive has
	if o.follow {
		s, err := c.StatPath(ctx, src.container, src.path)
		if err != nil {
			return err
		}
		if s.Mode&fs.ModeSymlink != 0 {
			src.path = s.LinkTarget
			_, top = archive.Split(src.path)
		}
	}
	var target archive.Info
	if dst != "-" {
		abs, err := archive.Abs(dst)
		if err != nil {
			return err
		}
		if target, err = archive.Destination(abs); err != nil {
			return err
		}
	}
	content, stat, err := c.CopyFrom(ctx, src.container, src.path)
	if err != nil {
		return err
	}
	defer content.Close()
	if dst == "-" {
		_, err := io.Copy(env.Out, content)
		return err
	}
	dir, rename, err := archive.Plan(archive.Info{IsDir: stat.Mode.IsDir()}, target)
	if err != nil {
		return err
	}
	if rename == "" && name != top {
		rename = name
	}
	n := &counted{Reader: content}
	renamed := archive.Renamed(n, strings.TrimPrefix(top, "/"), rename)
	defer renamed.Close()
	if err := archive.Unpack(renamed, dir, func(name string) {
		fmt.Fprintf(env.Err, "lade: %s is a device or a pipe, and was left out\n", name)
	}); err != nil {
		return err
	}
	o.done(env, n.n, dst)
	return nil
}

// in copies to a container.
func (o *copyOptions) in(ctx context.Context, env *command.Env, c *client.Client, src string, dst place) error {
	target, err := destination(ctx, c, dst)
	if err != nil {
		return err
	}
	opts := client.CopyToOptions{KeepKinds: true, ToUser: o.archive}
	if src == "-" {
		if !target.IsDir {
			return errdefs.New(errdefs.Invalid, `destination "%s:%s" must be a directory`, dst.container, dst.path)
		}
		return c.CopyTo(ctx, dst.container, target.Path, env.In, opts)
	}
	abs, err := archive.Abs(src)
	if err != nil {
		return err
	}
	source, err := archive.Source(abs, o.follow)
	if err != nil {
		return err
	}
	dir, name, err := archive.Plan(source, target)
	if err != nil {
		return err
	}
	if name == "" {
		name = source.Name
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(archive.Pack(w, source.Path, name)) }()
	n := &counted{Reader: r}
	err = c.CopyTo(ctx, dst.container, dir, n, opts)
	_ = r.Close() // the packer need not go on
	if err != nil {
		return err
	}
	o.done(env, n.n, dst.container+":"+dst.path)
	return nil
}

// destination looks at a path in a container that is to be copied to. It need
// not exist: whether the directory above does is the engine's to say.
func destination(ctx context.Context, c *client.Client, dst place) (archive.Info, error) {
	in := archive.Info{Path: archive.Keep(path.Join("/", dst.path), dst.path)}
	s, err := c.StatPath(ctx, dst.container, in.Path)
	if err == nil && s.Mode&fs.ModeSymlink != 0 {
		in.Path = s.LinkTarget
		s, err = c.StatPath(ctx, dst.container, in.Path)
	}
	switch {
	case errdefs.Is(err, errdefs.NotFound):
		if _, err := c.InspectContainerRaw(ctx, dst.container, false); err != nil {
			return in, err // it is the container that is not there
		}
		return in, nil
	case err != nil:
		return in, nil //nolint:nilerr // the copy itself says what is wrong
	case s.Mode&fs.ModeDevice != 0:
		return in, errors.New("destination is a device")
	case s.Mode&(fs.ModeSocket|fs.ModeNamedPipe|fs.ModeIrregular) != 0:
		return in, errors.New("destination is neither a file nor a directory")
	}
	in.Exists, in.IsDir = true, s.Mode.IsDir()
	return in, nil
}

// kinds are the letters of diff.
var kinds = map[api.ChangeType]string{api.ChangeModify: "C", api.ChangeAdd: "A", api.ChangeDelete: "D"}

// NewDiff returns the command diff.
func NewDiff(env *command.Env) *cobra.Command {
	return &cobra.Command{
		Use:               "diff CONTAINER",
		Short:             "Inspect changes to files or directories on a container's filesystem",
		Args:              command.Exactly(1),
		ValidArgsFunction: env.CompleteContainers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.Client()
			if err != nil {
				return err
			}
			changes, err := c.Diff(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			for _, ch := range changes {
				fmt.Fprintf(env.Out, "%s %s\n", kinds[ch.Kind], ch.Path)
			}
			return nil
		},
	}
}
