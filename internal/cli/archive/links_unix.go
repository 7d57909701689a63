//go:build unix

package archive

import (
	"io/fs"
	"syscall"
)

// fileID tells files apart.
type fileID struct{ dev, ino uint64 }

// idOf returns which file this is, and whether it may have several names.
func idOf(info fs.FileInfo) (fileID, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.IsDir() || st.Nlink < 2 {
		return fileID{}, false
	}
	return fileID{uint64(st.Dev), st.Ino}, true //nolint:unconvert // its size depends on the system
}
