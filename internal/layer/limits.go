package layer

import (
	"cmp"

	"lade/internal/errdefs"
)

// Limits bounds what a tar may ask for. A zero field is its default.
type Limits struct {
	Bytes   int64 // of the tar, and of all its files' sizes together: 128 GiB
	Entries int   // headers and directories they imply: 1 << 20
	Text    int64 // bytes of names, link targets and attributes: 64 MiB
	Path    int   // bytes of one path: 4095
	Depth   int   // directories above a file: 1024
	Xattrs  int   // bytes of one file's attributes: 64 KiB
}

// nameMax and pathMax are the kernel's own limits.
const (
	nameMax = 255
	pathMax = 4095
)

func (l Limits) withDefaults() Limits {
	return Limits{
		Bytes:   cmp.Or(l.Bytes, 128<<30),
		Entries: min(cmp.Or(l.Entries, 1<<20), 1<<30),
		Text:    min(cmp.Or(l.Text, 64<<20), maxText),
		Path:    min(cmp.Or(l.Path, pathMax), pathMax),
		Depth:   cmp.Or(l.Depth, 1024),
		Xattrs:  min(cmp.Or(l.Xattrs, 64<<10), maxXattrs),
	}
}

func invalid(format string, args ...any) error {
	return errdefs.New(errdefs.Invalid, format, args...)
}

func exceeded(format string, args ...any) error {
	return errdefs.Hint(errdefs.New(errdefs.Exhausted, format, args...),
		"if you trust this image, raise the limits for layers")
}
