// Package users finds out who a container's user is, in the container's root.
package users

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"lade/internal/errdefs"
	"lade/internal/image/account"
	"lade/internal/linux/inroot"
	"lade/internal/shim"
)

// maxAccountFile bounds what is read of a container's /etc/passwd or
// /etc/group: they may be made by anybody (CVE-2024-9676).
const maxAccountFile = 1 << 20

// MountedRoot opens the root directory of a container whose shim has mounted
// it, in the shim's mount namespace.
func MountedRoot(pid int, bundle string) (*os.File, error) {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "root", bundle, shim.RootName))
	if err != nil {
		return nil, fmt.Errorf("look into the container's root: %w", err)
	}
	return f, nil
}

// ProcessRoot opens the root directory of a running process.
func ProcessRoot(pid int) (*os.File, error) {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "root"))
	if err != nil {
		return nil, fmt.Errorf("look into the container's root: %w", err)
	}
	return f, nil
}

// readAccounts reads /etc/passwd and /etc/group below root. One that is not
// there is empty; one that is not a file, or too big, is an error: who a
// process is to be must not depend on a guess.
func readAccounts(root *os.File) (account.Files, error) {
	var f account.Files
	for path, to := range map[string]*[]byte{"etc/passwd": &f.Passwd, "etc/group": &f.Group} {
		data, err := inroot.ReadFile(root, path, maxAccountFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return account.Files{}, errdefs.With(errdefs.Invalid, fmt.Errorf("read the image's users: %w", err))
		}
		*to = data
	}
	return f, nil
}

// Resolve finds who a user string means in the root at root.
func Resolve(root *os.File, user string, groups []string) (account.Identity, error) {
	u, err := account.ParseUser(user)
	if err != nil {
		return account.Identity{}, err
	}
	var extra []account.Group
	for _, g := range groups {
		parsed, err := account.ParseGroup(g)
		if err != nil {
			return account.Identity{}, err
		}
		extra = append(extra, parsed)
	}
	files, err := readAccounts(root)
	if err != nil {
		return account.Identity{}, err
	}
	return u.Resolve(files, extra)
}
