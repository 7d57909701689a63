package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lade/cmd/lade-toolbox/cmdline"
)

func gunzip(args []string) error { return gzipCmd(append([]string{"-d"}, args...)) }
func zcat(args []string) error   { return gzipCmd(append([]string{"-dc"}, args...)) }

func gzipCmd(args []string) error {
	o, rest, err := cmdline.Getopt(args, "dckf123456789n", nil)
	if err != nil {
		return err
	}
	pipe := func(w io.Writer, r io.Reader) error {
		if o.Has('d') {
			z, err := gzip.NewReader(r)
			if err != nil {
				return err
			}
			_, err = io.Copy(w, z) //nolint:gosec // as much as there is
			return err
		}
		z := gzip.NewWriter(w)
		_, err := io.Copy(z, r)
		return errors.Join(err, z.Close())
	}
	if len(rest) == 0 || o.Has('c') {
		return cmdline.Inputs(rest, func(_ string, r io.Reader) error { return pipe(os.Stdout, r) })
	}
	return cmdline.Each(rest, func(name string) error {
		to := name + ".gz"
		if o.Has('d') {
			if to = strings.TrimSuffix(name, ".gz"); to == name {
				return cmdline.Usage("%s: unknown suffix", name)
			}
		}
		in, err := os.Open(name)
		if err != nil {
			return err
		}
		defer in.Close()
		mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
		if o.Has('f') {
			mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
		}
		out, err := os.OpenFile(to, mode, 0o666)
		if err != nil {
			return err
		}
		if err := errors.Join(pipe(out, in), out.Close()); err != nil {
			return errors.Join(err, os.Remove(to))
		}
		if o.Has('k') {
			return nil
		}
		return os.Remove(name)
	})
}

// tarCmd knows c, x and t, with f, z, v and C.
func tarCmd(args []string) error {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		args = append([]string{"-" + args[0]}, args[1:]...) // tar xf: the old manner
	}
	o, rest, err := cmdline.Getopt(args, "cxtzvf:C:pO", map[string]byte{"directory": 'C', "file": 'f', "gzip": 'z'})
	if err != nil {
		return err
	}
	name := o.Last('f', "-")
	if o.Has('c') {
		return create(o, name, rest)
	}
	if !o.Has('x') && !o.Has('t') {
		return cmdline.Usage("one of -c, -x and -t is needed")
	}
	return cmdline.Inputs([]string{name}, func(_ string, r io.Reader) error {
		if o.Has('z') || strings.HasSuffix(name, "gz") {
			z, err := gzip.NewReader(r)
			if err != nil {
				return err
			}
			r = z
		}
		return extract(o, tar.NewReader(r), rest)
	})
}

func create(o cmdline.Options, name string, paths []string) (err error) {
	out := os.Stdout
	if name != "-" {
		if out, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, out.Close()) }()
	}
	var w io.WriteCloser = out
	if o.Has('z') {
		z := gzip.NewWriter(out)
		defer func() { err = errors.Join(err, z.Close()) }()
		w = z
	}
	if err := os.Chdir(o.Last('C', ".")); err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	err = cmdline.Each(paths, func(root string) error {
		return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if o.Has('v') {
				fmt.Fprintln(os.Stderr, p)
			}
			return pack(tw, p, d)
		})
	})
	return errors.Join(err, tw.Close())
}

func pack(tw *tar.Writer, p string, d fs.DirEntry) error {
	st, err := d.Info()
	if err != nil {
		return err
	}
	link := ""
	if st.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(p); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(st, link)
	if err != nil {
		return err
	}
	h.Name = strings.TrimLeft(p, "/")
	if st.IsDir() {
		h.Name += "/"
	}
	if err := tw.WriteHeader(h); err != nil || !st.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(tw, f)
	return err
}

// extract unpacks below the directory, and nowhere else: os.Root sees to it.
func extract(o cmdline.Options, tr *tar.Reader, only []string) error {
	root, err := os.OpenRoot(o.Last('C', "."))
	if err != nil {
		return err
	}
	defer root.Close()
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(filepath.Clean("/"+h.Name), "/")
		if !wanted(name, only) {
			continue
		}
		if o.Has('t') || o.Has('v') {
			fmt.Println(h.Name)
		}
		if o.Has('t') || name == "" {
			continue
		}
		if o.Has('O') {
			_, err = io.Copy(os.Stdout, tr) //nolint:gosec // as much as there is
		} else {
			err = unpack(root, name, h, tr)
		}
		if err != nil {
			return err
		}
	}
}

func wanted(name string, only []string) bool {
	if len(only) == 0 {
		return true
	}
	for _, o := range only {
		o = strings.TrimPrefix(filepath.Clean("/"+o), "/")
		if name == o || strings.HasPrefix(name, o+"/") {
			return true
		}
	}
	return false
}

func unpack(root *os.Root, name string, h *tar.Header, r io.Reader) error {
	mode := h.FileInfo().Mode().Perm()
	if dir := filepath.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o777); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(name, 0o777); err != nil {
			return err
		}
		return root.Chmod(name, mode)
	case tar.TypeSymlink:
		_ = root.Remove(name)
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		_ = root.Remove(name)
		return root.Link(strings.TrimPrefix(filepath.Clean("/"+h.Linkname), "/"), name)
	case tar.TypeReg:
	default:
		fmt.Fprintf(os.Stderr, "tar: %s: passed over\n", name)
		return nil
	}
	_ = root.Remove(name)
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := root.Lchown(name, h.Uid, h.Gid); err != nil {
			return err
		}
		if err := root.Chmod(name, mode); err != nil {
			return err
		}
	}
	return root.Chtimes(name, time.Time{}, h.ModTime)
}
