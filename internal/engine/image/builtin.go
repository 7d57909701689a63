package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/reference"
)

// toolboxName is the built-in image.
const toolboxName = "lade/toolbox"

// toolboxLabel says in the image which program, and which form of the image,
// it was made of. An image of that name without the label is somebody's own.
const toolboxLabel = "io.lade.toolbox"

// toolboxForm changes when the image changes though the program does not.
const toolboxForm = "1"

// maxProgram bounds the program: it is held in memory while the image is made.
const maxProgram = 64 << 20

// builtin is the state of the built-in image.
type builtin struct {
	program string

	mu   sync.Mutex
	made os.FileInfo // guarded by mu: the program that the image was made of
}

func (b *builtin) ref() reference.Reference {
	return reference.Reference{Domain: "docker.io", Path: toolboxName, Tag: reference.DefaultTag}
}

func (b *builtin) is(r reference.Reference) bool { return b.program != "" && r == b.ref() }

// fresh reports whether the program is the one that the image was made of.
func (b *builtin) fresh() bool {
	st, err := os.Stat(b.program)
	b.mu.Lock()
	defer b.mu.Unlock()
	return err == nil && b.made != nil && sameFile(b.made, st)
}

// ensureBuiltin makes the built-in image, if it is not there or the program
// has changed since it was made.
func (s *Service) ensureBuiltin(ctx context.Context) error {
	b := &s.builtin
	b.mu.Lock()
	defer b.mu.Unlock()
	st, err := os.Stat(b.program)
	if err != nil {
		return errdefs.Hint(errdefs.New(errdefs.NotFound, "No such image: %s: it is made of the program lade-toolbox: %w", b.ref().Familiar(), err), "install lade-toolbox beside laded")
	}
	have, err := s.c.Images.Resolve(b.ref().Familiar())
	if err == nil && b.made != nil && sameFile(b.made, st) {
		return nil
	}
	if err != nil && !errdefs.Is(err, errdefs.NotFound) {
		return err
	}
	program, err := readProgram(b.program, st)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(program)
	want := toolboxForm + "-" + hex.EncodeToString(sum[:])
	label, own := have.Config.Config.Labels[toolboxLabel]
	if have.ID == "" || own && label != want {
		if err := s.makeBuiltin(ctx, program, want); err != nil {
			return fmt.Errorf("make the image %s: %w", b.ref().Familiar(), err)
		}
		s.dropOld(have.ID)
	}
	b.made = st
	return nil
}

// dropOld removes the image of the last version, unless somebody uses it.
func (s *Service) dropOld(id digest.Digest) {
	if id == "" {
		return
	}
	s.removing.Lock()
	defer s.removing.Unlock()
	e, err := s.c.Images.Resolve(string(id))
	if err != nil || len(e.Refs) > 0 || s.conflict(e, false) != "" {
		return
	}
	if _, err := s.removeImage(e, RemoveOptions{}, nil); err != nil {
		s.c.Log.Warn("remove the built-in image of an earlier version", "image", id, "err", err)
	}
}

func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func readProgram(path string, st os.FileInfo) ([]byte, error) {
	if st.Size() > maxProgram || !st.Mode().IsRegular() {
		return nil, errdefs.New(errdefs.Invalid, "%s is not the program lade-toolbox", path)
	}
	return os.ReadFile(path)
}

func (s *Service) makeBuiltin(ctx context.Context, program []byte, label string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, s.builtin.program, "--list").Output()
	if err != nil {
		return fmt.Errorf("ask %s for its commands: %w", s.builtin.program, err)
	}
	layer, err := toolboxLayer(program, strings.Fields(string(out)))
	if err != nil {
		return err
	}
	epoch := time.Unix(0, 0).UTC()
	config := ocispec.Image{
		Created:  &epoch,
		Author:   "Lade",
		Platform: s.c.Platform,
		Config: ocispec.ImageConfig{
			Env:    []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cmd:    []string{"sh"},
			Labels: map[string]string{toolboxLabel: label},
		},
		History: []ocispec.History{{Created: &epoch, CreatedBy: "lade: the program lade-toolbox and its commands"}},
	}
	_, err = s.c.Transfer.Add(ctx, config, [][]byte{layer}, s.builtin.ref())
	return err
}

// toolboxLayer returns the tar of the image's only layer. The same program
// gives the same bytes.
func toolboxLayer(program []byte, commands []string) ([]byte, error) {
	if len(commands) == 0 {
		return nil, errors.New("lade-toolbox names no commands")
	}
	var b bytes.Buffer
	b.Grow(len(program) + 256<<10)
	w := tar.NewWriter(&b)
	add := func(h tar.Header, data []byte) error {
		h.ModTime, h.Size, h.Format = time.Unix(0, 0), int64(len(data)), tar.FormatUSTAR
		h.Uname, h.Gname = "root", "root"
		err := w.WriteHeader(&h)
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	}
	var errs []error
	for _, d := range []struct {
		name string
		mode int64
	}{
		{"bin/", 0o755},
		{"dev/", 0o755},
		{"etc/", 0o755},
		{"home/", 0o755},
		{"proc/", 0o555},
		{"root/", 0o700},
		{"run/", 0o755},
		{"sys/", 0o555},
		{"tmp/", 0o1777},
		{"usr/", 0o755},
		{"usr/bin/", 0o755},
		{"var/", 0o755},
		{"var/tmp/", 0o1777},
	} {
		errs = append(errs, add(tar.Header{Typeflag: tar.TypeDir, Name: d.name, Mode: d.mode}, nil))
	}
	for _, f := range []struct{ name, text string }{
		{"etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"},
		{"etc/group", "root:x:0:\nnogroup:x:65534:\n"},
		{"etc/os-release", "NAME=\"Lade toolbox\"\nID=lade-toolbox\nPRETTY_NAME=\"Lade toolbox\"\n"},
		{"etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n"},
		{"etc/nsswitch.conf", "hosts: files dns\n"},
	} {
		errs = append(errs, add(tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644}, []byte(f.text)))
	}
	errs = append(errs, add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/lade-toolbox", Mode: 0o755}, program))
	slices.Sort(commands)
	for _, c := range slices.Compact(commands) {
		if strings.ContainsRune(c, '/') {
			return nil, errdefs.New(errdefs.Internal, "lade-toolbox names the command %q", c)
		}
		errs = append(errs, add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + c, Linkname: "lade-toolbox", Mode: 0o777}, nil))
	}
	errs = append(errs, add(tar.Header{Typeflag: tar.TypeSymlink, Name: "usr/bin/env", Linkname: "/bin/lade-toolbox", Mode: 0o777}, nil), w.Close())
	return b.Bytes(), errors.Join(errs...)
}
