package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/u-root/u-root/pkg/core"
	corebase64 "github.com/u-root/u-root/pkg/core/base64"
	corecat "github.com/u-root/u-root/pkg/core/cat"
	corechmod "github.com/u-root/u-root/pkg/core/chmod"
	corecp "github.com/u-root/u-root/pkg/core/cp"
	coremkdir "github.com/u-root/u-root/pkg/core/mkdir"
	coremktemp "github.com/u-root/u-root/pkg/core/mktemp"
	coremv "github.com/u-root/u-root/pkg/core/mv"
	corerm "github.com/u-root/u-root/pkg/core/rm"
	coretouch "github.com/u-root/u-root/pkg/core/touch"

	"lade/cmd/lade-toolbox/cmdline"
)

// uroot runs one of u-root's commands.
func uroot(c core.Command, args []string) error {
	c.SetIO(os.Stdin, os.Stdout, os.Stderr)
	return c.Run(args...)
}

func base64Cmd(args []string) error { return uroot(corebase64.New(), args) }
func cat(args []string) error       { return uroot(corecat.New(), args) }
func chmod(args []string) error     { return uroot(corechmod.New(), args) }
func cp(args []string) error        { return uroot(corecp.New(), args) }
func mkdir(args []string) error     { return uroot(coremkdir.New(), args) }
func mktemp(args []string) error    { return uroot(coremktemp.New(), args) }
func mv(args []string) error        { return uroot(coremv.New(), args) }
func rm(args []string) error        { return uroot(corerm.New(), args) }
func touch(args []string) error     { return uroot(coretouch.New(), args) }

func basename(w io.Writer, args []string) error {
	if len(args) == 0 {
		return cmdline.Usage("missing operand")
	}
	b := filepath.Base(args[0])
	if len(args) > 1 && b != args[1] {
		b = strings.TrimSuffix(b, args[1])
	}
	_, _ = fmt.Fprintln(w, b)
	return nil
}

func dirname(w io.Writer, args []string) error {
	for _, a := range args {
		_, _ = fmt.Fprintln(w, filepath.Dir(strings.TrimRight(a, "/")))
	}
	return nil
}

func pwd([]string) error {
	d, err := os.Getwd()
	if err == nil {
		fmt.Println(d)
	}
	return err
}

// tree applies fn to a path and, if deep, to all below it.
func tree(path string, deep bool, fn func(string) error) error {
	if !deep {
		return fn(path)
	}
	return filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return fn(p)
	})
}

func chown(args []string) error {
	o, rest, err := cmdline.Getopt(args, "Rhfv", nil)
	if err != nil || len(rest) < 2 {
		return errors.Join(err, cmdline.Need(rest, 2))
	}
	name, group, hasGroup := strings.Cut(rest[0], ":")
	uid, gid := -1, -1
	if name != "" {
		if uid, err = userID(name); err != nil {
			return err
		}
	}
	if hasGroup && group != "" {
		if gid, err = groupID(group); err != nil {
			return err
		}
	}
	return own(o, rest[1:], uid, gid)
}

func chgrp(args []string) error {
	o, rest, err := cmdline.Getopt(args, "Rhfv", nil)
	if err != nil || len(rest) < 2 {
		return errors.Join(err, cmdline.Need(rest, 2))
	}
	gid, err := groupID(rest[0])
	if err != nil {
		return err
	}
	return own(o, rest[1:], -1, gid)
}

func own(o cmdline.Options, paths []string, uid, gid int) error {
	change := os.Chown
	if o.Has('h') || o.Has('R') {
		change = os.Lchown
	}
	return cmdline.Each(paths, func(p string) error {
		return tree(p, o.Has('R'), func(p string) error { return change(p, uid, gid) })
	})
}

func userID(name string) (int, error) {
	if n, err := strconv.Atoi(name); err == nil {
		return n, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(u.Uid)
}

func groupID(name string) (int, error) {
	if n, err := strconv.Atoi(name); err == nil {
		return n, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(g.Gid)
}

func ln(args []string) error {
	o, rest, err := cmdline.Getopt(args, "sfnTv", map[string]byte{"symbolic": 's', "force": 'f'})
	if err != nil || len(rest) == 0 {
		return errors.Join(err, cmdline.Need(rest, 1))
	}
	if len(rest) == 1 {
		rest = append(rest, filepath.Base(rest[0]))
	}
	to := rest[len(rest)-1]
	st, err := os.Stat(to)
	into := err == nil && st.IsDir() && !o.Has('T') && (!o.Has('n') || !isLink(to))
	if len(rest) > 2 && !into {
		return cmdline.Usage("%s is not a directory", to)
	}
	return cmdline.Each(rest[:len(rest)-1], func(from string) error {
		name := to
		if into {
			name = filepath.Join(to, filepath.Base(from))
		}
		if o.Has('f') {
			_ = os.Remove(name)
		}
		if o.Has('s') {
			return os.Symlink(from, name)
		}
		return os.Link(from, name)
	})
}

func isLink(p string) bool {
	st, err := os.Lstat(p)
	return err == nil && st.Mode()&os.ModeSymlink != 0
}

func readlink(args []string) error {
	o, rest, err := cmdline.Getopt(args, "fen", nil)
	if err != nil {
		return err
	}
	if o.Has('f') || o.Has('e') {
		return realpath(rest)
	}
	return cmdline.Each(rest, func(p string) error {
		t, err := os.Readlink(p)
		if err != nil {
			return cmdline.StatusError(1)
		}
		fmt.Println(t)
		return nil
	})
}

func realpath(args []string) error {
	return cmdline.Each(args, func(p string) error {
		abs, err := filepath.Abs(p)
		if err != nil {
			return err
		}
		real, err := filepath.EvalSymlinks(abs)
		if errors.Is(err, fs.ErrNotExist) { // the last part need not be there
			var dir string
			dir, err = filepath.EvalSymlinks(filepath.Dir(abs))
			real = filepath.Join(dir, filepath.Base(abs))
		}
		if err == nil {
			fmt.Println(real)
		}
		return err
	})
}

func rmdir(args []string) error {
	o, rest, err := cmdline.Getopt(args, "p", nil)
	if err != nil {
		return err
	}
	return cmdline.Each(rest, func(p string) error {
		for {
			if err := syscall.Rmdir(p); err != nil {
				return &fs.PathError{Op: "rmdir", Path: p, Err: err}
			}
			if p = filepath.Dir(p); !o.Has('p') || p == "." || p == "/" {
				return nil
			}
		}
	})
}

func mkfifo(args []string) error {
	return cmdline.Each(args, func(p string) error { return syscall.Mkfifo(p, 0o666) })
}

func syncCmd([]string) error {
	syscall.Sync()
	return nil
}

func truncate(args []string) error {
	o, rest, err := cmdline.Getopt(args, "s:c", map[string]byte{"size": 's'})
	if err != nil {
		return err
	}
	n, err := cmdline.Size(o.Last('s', ""))
	if err != nil {
		return err
	}
	return cmdline.Each(rest, func(p string) error {
		f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE, 0o666)
		if err != nil {
			return err
		}
		return errors.Join(f.Truncate(n), f.Close())
	})
}

func dd(args []string) error {
	in, out, bs, count, skip, quiet := "", "", int64(512), int64(-1), int64(0), false
	for _, a := range args {
		key, value, _ := strings.Cut(a, "=")
		var err error
		switch key {
		case "if":
			in = value
		case "of":
			out = value
		case "bs":
			bs, err = cmdline.Size(value)
		case "count":
			count, err = cmdline.Size(value)
		case "skip":
			skip, err = cmdline.Size(value)
		case "status":
			quiet = value == "none"
		case "conv", "oflag", "iflag":
		default:
			err = cmdline.Usage("unknown operand %s", a)
		}
		if err != nil {
			return err
		}
	}
	r, w := os.Stdin, os.Stdout
	var err error
	if in != "" {
		if r, err = os.Open(in); err != nil {
			return err
		}
	}
	if out != "" {
		if w, err = os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666); err != nil {
			return err
		}
	}
	return transferBlocks(w, r, [3]int64{bs, count, skip}, quiet)
}

func transferBlocks(w *os.File, r io.Reader, how [3]int64, quiet bool) error {
	bs, count, skip := max(how[0], 1), how[1], how[2]
	start := time.Now()
	if _, err := io.CopyN(io.Discard, r, skip*bs); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	buf := make([]byte, bs)
	var total, whole, part int64
	for n := int64(0); count < 0 || n < count; n++ {
		m, err := io.ReadFull(r, buf)
		if m > 0 {
			if _, err := w.Write(buf[:m]); err != nil {
				return err
			}
			total += int64(m)
			if int64(m) == bs {
				whole++
			} else {
				part++
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if !quiet {
		fmt.Fprintf(os.Stderr, "%d+%d records in\n%d+%d records out\n%d bytes copied, %.3f s\n", whole, part, whole, part, total, time.Since(start).Seconds())
	}
	return w.Close()
}

func stat(args []string) error {
	o, rest, err := cmdline.Getopt(args, "c:Lt", map[string]byte{"format": 'c', "dereference": 'L'})
	if err != nil {
		return err
	}
	look := os.Lstat
	if o.Has('L') {
		look = os.Stat
	}
	return cmdline.Each(rest, func(p string) error {
		st, err := look(p)
		if err != nil {
			return err
		}
		s, ok := st.Sys().(*syscall.Stat_t)
		if !ok {
			return errors.ErrUnsupported
		}
		format := o.Last('c', "  File: %n\n  Size: %s\tBlocks: %b\tType: %F\nDevice: %d\tInode: %i\tLinks: %h\nAccess: (%a/%A)\tUid: %u (%U)\tGid: %g (%G)\nModify: %y")
		fmt.Println(expandStat(format, p, st, s))
		return nil
	})
}

func expandStat(format, path string, st os.FileInfo, s *syscall.Stat_t) string {
	kind := map[fs.FileMode]string{0: "regular file", fs.ModeDir: "directory", fs.ModeSymlink: "symbolic link", fs.ModeNamedPipe: "fifo", fs.ModeSocket: "socket", fs.ModeDevice: "block special file", fs.ModeDevice | fs.ModeCharDevice: "character special file"}
	return strings.NewReplacer(
		"%%", "%", "%n", path, "%s", fmt.Sprint(st.Size()), "%b", fmt.Sprint(s.Blocks), "%F", kind[st.Mode().Type()], "%d", fmt.Sprint(s.Dev), "%i", fmt.Sprint(s.Ino), "%h", fmt.Sprint(s.Nlink),
		"%a", fmt.Sprintf("%o", s.Mode&0o7777), "%f", fmt.Sprintf("%x", s.Mode), "%A", st.Mode().String(), "%u", fmt.Sprint(s.Uid), "%g", fmt.Sprint(s.Gid), "%U", userName(s.Uid), "%G", groupName(s.Gid),
		"%y", st.ModTime().Format("2006-01-02 15:04:05.000000000 -0700"), "%Y", fmt.Sprint(st.ModTime().Unix()),
	).Replace(format)
}

func userName(id uint32) string {
	if u, err := user.LookupId(fmt.Sprint(id)); err == nil {
		return u.Username
	}
	return fmt.Sprint(id)
}

func groupName(id uint32) string {
	if g, err := user.LookupGroupId(fmt.Sprint(id)); err == nil {
		return g.Name
	}
	return fmt.Sprint(id)
}

func du(args []string) error {
	o, rest, err := cmdline.Getopt(args, "shkmacx", nil)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		rest = []string{"."}
	}
	show := func(blocks int64, p string) {
		if o.Has('h') {
			fmt.Printf("%s\t%s\n", cmdline.Human(blocks*512), p)
		} else {
			fmt.Printf("%d\t%s\n", (blocks+1)/2, p)
		}
	}
	return cmdline.Each(rest, func(root string) error {
		sums := map[string]int64{}
		var dirs []string
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if st, err := d.Info(); err == nil {
				if s, ok := st.Sys().(*syscall.Stat_t); ok {
					for dir := p; ; dir = filepath.Dir(dir) {
						sums[dir] += s.Blocks
						if dir == root || dir == "." || dir == "/" {
							break
						}
					}
				}
			}
			if d.IsDir() || o.Has('a') {
				dirs = append(dirs, p)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0 && !o.Has('s'); i-- {
			if dirs[i] != root {
				show(sums[dirs[i]], dirs[i])
			}
		}
		show(sums[root], root)
		return err
	})
}
