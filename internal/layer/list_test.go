package layer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
)

// names returns what is in a directory of a view.
func names(v View, dir Entry) ([]string, error) {
	if d, ok := v.(directory); ok {
		_ = d
		es, err := os.ReadDir(dir.path)
		var list []string
		for _, e := range es {
			list = append(list, e.Name())
		}
		return list, err
	}
	m := v.(*image)
	n, err := m.inode(dir.number)
	if err != nil {
		return nil, err
	}
	var list []string
	dots := 0
	for i := range int((n.size + blockSize - 1) >> blockBits) {
		block, err := m.dirBlock(n, i)
		if err != nil {
			return nil, err
		}
		for _, d := range block {
			if d.name == "." || d.name == ".." {
				dots++
				continue
			}
			list = append(list, d.name)
		}
	}
	if dots != 2 || !sort.StringsAreSorted(list) {
		return nil, fmt.Errorf("directory %d: %d dots, %q", dir.number, dots, list)
	}
	return list, nil
}

// describe returns an entry in words. Symbolic links have no mode of their own
// in a directory, and directories no link count that all file systems agree on.
func describe(v View, e Entry) (string, error) {
	var b strings.Builder
	mode := fmt.Sprintf(" %o", e.Mode)
	switch e.Type {
	case typeDir:
		b.WriteString("dir" + mode)
	case typeRegular:
		r, err := v.Content(e)
		if err != nil {
			return "", err
		}
		content, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return "", err
		}
		if int64(len(content)) != e.Size {
			return "", fmt.Errorf("%d bytes of %d", len(content), e.Size)
		}
		if len(content) > 256 {
			content = fmt.Appendf(nil, "%d bytes, sha256 %x", len(content), sha256.Sum256(content))
		}
		fmt.Fprintf(&b, "file%s %q", mode, content)
	case typeSymlink:
		fmt.Fprintf(&b, "-> %s", e.Target)
	case typeChar, typeBlock:
		b.WriteString(map[uint16]string{typeChar: "char", typeBlock: "block"}[e.Type])
		if e.whiteout() {
			return "whiteout", nil
		}
		fmt.Fprintf(&b, "%s %d:%d", mode, e.Device>>8&0xfff, e.Device&0xff|e.Device>>12&^0xff)
	case typeFIFO:
		b.WriteString("fifo" + mode)
	default:
		return "", fmt.Errorf("type %o", e.Type)
	}
	if e.UID != 0 || e.GID != 0 {
		fmt.Fprintf(&b, " of %d:%d", e.UID, e.GID)
	}
	if e.Type != typeDir && e.Links != 1 {
		fmt.Fprintf(&b, " x%d", e.Links)
	}
	if e.opaque {
		b.WriteString(" opaque")
	}
	for _, k := range slices.Sorted(maps.Keys(e.Xattrs)) {
		fmt.Fprintf(&b, " %s=%q", k, e.Xattrs[k])
	}
	return b.String(), nil
}

// listView returns all of a view: paths to descriptions. A root as nobody has
// described it is left out.
func listView(v View) (map[string]string, error) {
	m := map[string]string{}
	root, err := v.Root()
	if err != nil {
		return nil, err
	}
	if text, err := describe(v, root); err != nil {
		return nil, err
	} else if text != "dir 755" {
		m["."] = text
	}
	var walk func(dir Entry, at string) error
	walk = func(dir Entry, at string) error {
		list, err := names(v, dir)
		if err != nil {
			return err
		}
		for _, name := range list {
			e, ok, err := v.Child(dir, name)
			if err != nil || !ok {
				return fmt.Errorf("%s: found %t, %w", name, ok, err)
			}
			p := path.Join(at, name)
			if m[p], err = describe(v, e); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
			if e.IsDir() {
				if err := walk(e, p); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk(root, ""); err != nil {
		return nil, err
	}
	pending, err := v.Pending()
	if err != nil {
		return nil, err
	}
	return m, readPending(pending, func(r pendingRecord) error {
		if r.kind == pendingLink {
			m["pending "+r.name] = r.target
		}
		return nil
	})
}

// writeImage makes an image in memory and looks whether it keeps its promises.
func writeImage(tb testing.TB, tar string, l Limits) (map[string]string, error) {
	tb.Helper()
	f := &memory{}
	info, err := WriteEROFS(tb.Context(), f, strings.NewReader(tar), Options{Limits: l})
	if err != nil {
		return nil, err
	}
	if int64(len(f.b)) != info.Size {
		tb.Errorf("the image has %d bytes, and says %d", len(f.b), info.Size)
	}
	if err := info.Verify(f); err != nil {
		tb.Error(err)
	}
	if back, err := io.ReadAll(info.Tar(f)); err != nil || string(back) != tar {
		tb.Errorf("the tar does not come back: %d bytes, %v", len(back), err)
	}
	v, err := OpenImage(f)
	if err != nil {
		tb.Fatal(err)
	}
	list, err := listView(v)
	if err != nil {
		tb.Fatalf("the image cannot be read: %v", err)
	}
	return list, nil
}

// writeDir makes a directory of a tar.
func writeDir(tb testing.TB, tar string, l Limits) (map[string]string, error) {
	tb.Helper()
	dir := tb.TempDir()
	if _, err := WriteDirectory(tb.Context(), dir, strings.NewReader(tar), Options{Limits: l}); err != nil {
		return nil, err
	}
	if es, _ := os.ReadDir(dir); len(es) != 3 {
		tb.Errorf("the layer's directory holds %v", es)
	}
	v, err := OpenDirectory(dir)
	if err != nil {
		tb.Fatal(err)
	}
	list, err := listView(v)
	if err != nil {
		tb.Fatalf("the directory cannot be read: %v", err)
	}
	return list, nil
}

// outside returns all that can be said of a directory that a test must not
// change.
func outside(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		e, err := entryAt(p)
		if err != nil {
			return err
		}
		text, err := describe(directory(""), e)
		m[p] = fmt.Sprintf("%s %d.%d", text, e.Seconds, e.Nanos)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return m
}
