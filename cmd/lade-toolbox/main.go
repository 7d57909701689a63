// Command lade-toolbox is the program in the image lade/toolbox: a shell and
// the usual commands, one static program that looks at the name it was called
// by. The shell is mvdan.cc/sh; several commands are u-root's; the others are
// here, small, with the options that people use.
//
// Called by its own name it takes the command as its first argument; with
// --list it names the commands, which is how the engine knows what links the
// image needs.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"lade/cmd/lade-toolbox/cmdline"
	"lade/cmd/lade-toolbox/network"
	"lade/cmd/lade-toolbox/text"
)

func main() {
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	if name == "lade-toolbox" {
		switch {
		case len(args) == 0:
			fmt.Fprintln(os.Stderr, "usage: lade-toolbox COMMAND [ARG...], or lade-toolbox --list")
			os.Exit(2)
		case args[0] == "--list":
			for _, n := range names() {
				fmt.Println(n)
			}
			return
		}
		name, args = args[0], args[1:]
	}
	os.Exit(run(name, args))
}

// run runs a command and returns its exit code.
func run(name string, args []string) int {
	cmd := find(name)
	if cmd == nil {
		fmt.Fprintf(os.Stderr, "lade-toolbox: %s: no such command\n", name)
		return 127
	}
	err := cmd(args)
	if s, ok := errors.AsType[cmdline.StatusError](err); ok {
		return int(s)
	}
	if err == nil || errors.Is(err, syscall.EPIPE) {
		return 0
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	if _, ok := errors.AsType[cmdline.UsageError](err); ok {
		return 2
	}
	return 1
}

// table lists the commands. It is made when it is needed, and only then: a
// start should not pay for what it does not run.
func table() map[string]cmdline.Command {
	return map[string]cmdline.Command{
		"sh": shell, "ash": shell, "echo": builtin("echo"), "printf": builtin("printf"), "test": builtin("test"), "[": builtin("["),
		"true": func([]string) error { return nil }, "false": func([]string) error { return cmdline.StatusError(1) },

		"cat": cat, "base64": base64Cmd, "chmod": chmod, "cp": cp, "find": findCmd, "ls": ls, "mkdir": mkdir, "mktemp": mktemp, "mv": mv, "rm": rm, "touch": touch,
		"basename": onStdout(basename), "chgrp": chgrp, "chown": chown, "dd": dd, "df": df, "dirname": onStdout(dirname), "du": du, "ln": ln, "mkfifo": mkfifo, "pwd": pwd,
		"readlink": readlink, "realpath": realpath, "rmdir": rmdir, "stat": stat, "sync": syncCmd, "truncate": truncate,

		"cut": text.Cut, "grep": text.Grep, "egrep": text.Grep, "fgrep": text.Fgrep, "head": text.Head, "md5sum": text.Sum("md5"), "sed": text.Sed, "seq": text.Seq, "sha256sum": text.Sum("sha256"), "sha512sum": text.Sum("sha512"),
		"sha1sum": text.Sum("sha1"), "sort": text.Sort, "tail": text.Tail, "tee": text.Tee, "tr": text.Tr, "uniq": text.Uniq, "wc": text.Wc, "yes": text.Yes,

		"gunzip": gunzip, "gzip": gzipCmd, "tar": tarCmd, "zcat": zcat,

		"clear": clearCmd, "date": date, "env": env, "free": free, "hostname": onStdout(hostname), "id": onStdout(id), "kill": kill, "mount": mount, "nproc": onStdout(nproc), "pidof": pidof, "printenv": printenv,
		"ps": ps, "sleep": sleep, "timeout": timeout, "tty": tty, "umount": umount, "uname": onStdout(uname), "uptime": uptime, "which": which, "whoami": onStdout(whoami), "xargs": xargs,

		"ip": network.IP, "nc": network.NC, "nslookup": network.Nslookup, "ping": network.Ping, "wget": network.Wget,
	}
}

// find returns a command, or nil. The few that matter most at the start of a
// container are found without the table.
func find(name string) cmdline.Command {
	switch name {
	case "sh":
		return shell
	case "true":
		return func([]string) error { return nil }
	}
	return table()[name]
}

func names() []string {
	var all []string
	for n := range table() {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

// quick is a command that only says something. The shell runs it in place if
// it is this program's: a process would take longer than the answer.
type quick func(w io.Writer, args []string) error

func onStdout(q quick) cmdline.Command {
	return func(args []string) error { return q(os.Stdout, args) }
}

// quickly returns the quick commands.
func quickly(name string) quick {
	switch name {
	case "basename":
		return basename
	case "dirname":
		return dirname
	case "hostname":
		return hostname
	case "id":
		return id
	case "nproc":
		return nproc
	case "uname":
		return uname
	case "whoami":
		return whoami
	}
	return nil
}

// isSelf reports whether the program at path is this one.
func isSelf(path string) bool {
	a, err1 := os.Stat(path)
	b, err2 := os.Stat("/proc/self/exe")
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}
