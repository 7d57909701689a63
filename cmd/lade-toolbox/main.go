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
)

// command is one program of the box. Its arguments begin after its name.
type command func(args []string) error

// status is an error that is nothing but an exit code.
type status int

// Error implements error.
func (s status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

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
	if s, ok := errors.AsType[status](err); ok {
		return int(s)
	}
	if err == nil || errors.Is(err, syscall.EPIPE) {
		return 0
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	return 1
}

// table lists the commands. It is made when it is needed, and only then: a
// start should not pay for what it does not run.
func table() map[string]command {
	return map[string]command{
		"sh": shell, "ash": shell, "echo": builtin("echo"), "printf": builtin("printf"), "test": builtin("test"), "[": builtin("["),
		"true": func([]string) error { return nil }, "false": func([]string) error { return status(1) },

		"cat": cat, "base64": base64Cmd, "chmod": chmod, "cp": cp, "find": findCmd, "ls": ls, "mkdir": mkdir, "mktemp": mktemp, "mv": mv, "rm": rm, "touch": touch,
		"basename": onStdout(basename), "chgrp": chgrp, "chown": chown, "dd": dd, "df": df, "dirname": onStdout(dirname), "du": du, "ln": ln, "mkfifo": mkfifo, "pwd": pwd,
		"readlink": readlink, "realpath": realpath, "rmdir": rmdir, "stat": stat, "sync": syncCmd, "truncate": truncate,

		"cut": cut, "grep": grep, "egrep": grep, "fgrep": fgrep, "head": head, "md5sum": sum("md5"), "sed": sed, "seq": seq, "sha256sum": sum("sha256"), "sha512sum": sum("sha512"),
		"sha1sum": sum("sha1"), "sort": sortCmd, "tail": tail, "tee": tee, "tr": tr, "uniq": uniq, "wc": wc, "yes": yes,

		"gunzip": gunzip, "gzip": gzipCmd, "tar": tarCmd, "zcat": zcat,

		"clear": clearCmd, "date": date, "env": env, "free": free, "hostname": onStdout(hostname), "id": onStdout(id), "kill": kill, "mount": mount, "nproc": onStdout(nproc), "pidof": pidof, "printenv": printenv,
		"ps": ps, "sleep": sleep, "timeout": timeout, "tty": tty, "umount": umount, "uname": onStdout(uname), "uptime": uptime, "which": which, "whoami": onStdout(whoami), "xargs": xargs,

		"ip": ip, "nc": nc, "nslookup": nslookup, "ping": ping, "wget": wget,
	}
}

// find returns a command, or nil. The few that matter most at the start of a
// container are found without the table.
func find(name string) command {
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

func onStdout(q quick) command {
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

// usageError is an error of whoever typed the command.
type usageError struct{ string }

// Error implements error.
func (u usageError) Error() string { return u.string }

func usage(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// options are parsed flags: the values of each, in order; "" for one without.
type options map[byte][]string

func (o options) has(c byte) bool { return len(o[c]) > 0 }

// last returns the last value of an option, or def.
func (o options) last(c byte, def string) string {
	if v := o[c]; len(v) > 0 {
		return v[len(v)-1]
	}
	return def
}

// getopt parses short options as getopt does: in spec, a colon follows those
// that take a value. Long names are given as the letter they stand for.
func getopt(args []string, spec string, long map[string]byte) (options, []string, error) {
	o := options{}
	takes := func(c byte) (known, value bool) {
		for i := range len(spec) {
			if spec[i] == c && c != ':' {
				return true, i+1 < len(spec) && spec[i+1] == ':'
			}
		}
		return false, false
	}
	var rest []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "--":
			return o, append(rest, args[i+1:]...), nil
		case len(a) > 2 && a[:2] == "--":
			name, value, has := cutByte(a[2:], '=')
			c, ok := long[name]
			if !ok {
				return nil, nil, usage("unknown option %s", a)
			}
			if _, wants := takes(c); wants && !has {
				if i++; i == len(args) {
					return nil, nil, usage("option %s needs a value", a)
				}
				value = args[i]
			}
			o[c] = append(o[c], value)
		case len(a) > 1 && a[0] == '-':
			n, err := o.short(a[1:], args[i+1:], takes)
			if err != nil {
				return nil, nil, err
			}
			i += n
		default:
			rest = append(rest, a)
		}
	}
	return o, rest, nil
}

// short parses a cluster of short options, and returns how many of the
// following arguments it used.
func (o options) short(cluster string, next []string, takes func(byte) (known, value bool)) (int, error) {
	for j := range len(cluster) {
		c := cluster[j]
		known, value := takes(c)
		switch {
		case !known:
			return 0, usage("unknown option -%c", c)
		case !value:
			o[c] = append(o[c], "")
		case j+1 < len(cluster):
			o[c] = append(o[c], cluster[j+1:])
			return 0, nil
		case len(next) == 0:
			return 0, usage("option -%c needs a value", c)
		default:
			o[c] = append(o[c], next[0])
			return 1, nil
		}
	}
	return 0, nil
}

func cutByte(s string, c byte) (before, after string, found bool) {
	for i := range len(s) {
		if s[i] == c {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}
