package plan

import (
	"path"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/runtime/plan/mountopt"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/program"
)

// Below returns the path that a path of the host has in the root, if it lies
// there.
func Below(root, p string) (inside string, ok bool) {
	if root == "" || root == "/" {
		return "", false
	}
	rest, ok := strings.CutPrefix(path.Clean(p), root)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return path.Clean("/" + rest), true
}

func (b *builder) below(p string) (string, bool) { return Below(b.in.Rootfs, p) }

// bindInside binds a part of the container's own tree, with what the mounts
// before it put there. Whether that is a directory is known only then.
func (b *builder) bindInside(i int, m *specs.Mount, o mountopt.Options) {
	const part program.Slot = "part"
	source, _ := b.below(m.Source)
	label := step.Field("mounts", i) + ": " + m.Destination
	say := "open the source " + m.Source + " of the mount at " + m.Destination
	attach := func(dir bool) []program.Step {
		return []program.Step{
			b.placing(m.Destination, dir, step.InRoot, label, b.outsideProc(i, m)...),
			step.Say(step.Attach(mntFD, placeFD), "mount "+m.Source+" at "+m.Destination), step.Close(placeFD),
		}
	}
	b.add(
		step.Why(step.Say(step.Openat2(rootFD, source, step.PathOnly, step.InRoot, part), say), label+", from the container's own tree"),
		step.Say(step.CloneTree(program.FD(part), "", o.Recursive, mntFD), say), step.Close(part),
	)
	if o.IDMap {
		b.idMapInside(i, m, o)
	}
	b.add(b.bindAttributes(mntFD, o, m.Destination)...)
	dir := step.Tolerate(step.Openat2(mntFD, ".", step.PathOnly|unix.O_DIRECTORY, 0, part), syscall.ENOTDIR)
	dir.Then, dir.Else = append([]program.Step{step.Close(part)}, attach(true)...), attach(false)
	b.add(dir)
	b.propagate(o)
	b.add(step.Close(mntFD))
}

// idMapInside has the runtime map the ids of the tree at hand: it takes
// privileges over the file system, which the child may not have.
func (b *builder) idMapInside(i int, m *specs.Mount, o mountopt.Options) {
	label := step.Field("mounts", i) + ": idmap"
	b.add(step.Why(step.Say(b.handOn(mntFD), "hand "+m.Source+" to the runtime"), label))
	b.await("the runtime maps the ids of " + m.Source)
	steps := b.mapTree(i, m, o, mntFD)
	last := &steps[len(steps)-1]
	last.Call, last.Args[0] = "idmap_child", program.FD(program.Sync)
	b.prog.Before = append(b.prog.Before, steps[:len(steps)-1]...)
	b.beside(*last, "the ids are mapped")
}

// handOn is the child's step that sends the runtime a descriptor.
func (b *builder) handOn(s program.Slot) program.Step {
	return program.Step{Call: "sendmsg", Args: []program.Arg{program.FD(program.Sync), program.FDMessage(s, "d"), program.Named(unix.MSG_NOSIGNAL, "MSG_NOSIGNAL")}}
}

// beside has the runtime take a step with what the child handed on, and release
// it then.
func (b *builder) beside(s program.Step, why string) {
	b.copies = append(b.copies, s, program.Step{Call: "release", Args: []program.Arg{program.FD(program.Sync)}, Why: why})
	b.copiesLate = b.met
}
