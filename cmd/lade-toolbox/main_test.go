package main

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"lade/test/kerneltest"
)

func TestMain(m *testing.M) {
	if os.Getenv("LADE_TEST_TOOLBOX") != "" {
		main()
		return
	}
	kerneltest.Main(m, kerneltest.Options{})
}

// box makes a directory with a link for each command, which leads to this test
// binary.
func box(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, n := range append(names(), "lade-toolbox") {
		if err := os.Symlink(self, filepath.Join(dir, n)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func toolbox(t *testing.T, dir, stdin string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, args[0]), args[1:]...)
	cmd.Env = []string{"PATH=" + dir, "LADE_TEST_TOOLBOX=1", "HOME=/root"}
	cmd.Dir = t.TempDir()
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		if ws, ok := e.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return string(out), 128 + int(ws.Signal())
		}
		return string(out), e.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out), 0
}

// TestShell runs scripts; what they should print stands beside them.
func TestShell(t *testing.T) {
	dir := box(t)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		script, want string
		code         int
	}{
		{`echo hello from $(hostname)`, "hello from " + host + "\n", 0},
		{`exit 7`, "", 7},
		{`nosuch`, "sh: nosuch: not found\n", 127},
		{`/etc`, "sh: /etc: Is a directory\n", 126},
		{`touch x; ./x`, "sh: ./x: Permission denied\n", 126},
		{`echo 'echo script $1' > x; chmod +x x; ./x a`, "script a\n", 0},
		{`kill -9 $$`, "", 137},
		{`exec sh -c 'kill -TERM $$'`, "", 143},
		{`sh -c 'exit 3'; echo $?`, "3\n", 0},
		{`set -e; false; echo no`, "", 1},
		{`if`, "sh: sh:1:1: `if` must be followed by a statement list\n", 2},
		{`trap 'echo bye' EXIT; echo hi`, "hi\nbye\n", 0},
		{`trap 'echo term; exit 3' TERM; kill -TERM $$; sleep 0.05; echo no`, "term\n", 3},
		{`trap 'echo got; exit 4' USR1; { sleep 0.05; kill -USR1 $$; } & sleep 1 & wait`, "got\n", 4},
		{`trap '' TERM; kill -TERM $$; echo still here`, "still here\n", 0},
		{`umask 027; touch f; stat -c %a f; umask`, "640\n0027\n", 0},
		{`for i in $(seq 3); do echo $i; done | tail -1`, "3\n", 0},
		{`cat <<E
$((2*21))
E`, "42\n", 0},
		{`x=a.tar.gz; echo ${x%%.*} ${x#*.} ${y:-none}`, "a tar.gz none\n", 0},
		{`(cd /; pwd); cd /tmp && pwd`, "/\n/tmp\n", 0},
		{`echo out; echo err >&2`, "out\nerr\n", 0},
		{`printf '%s=%d\n' a 1 b 2; test 1 -lt 2 && [ -d / ] && echo yes`, "a=1\nb=2\nyes\n", 0},
		{`exec > f; echo in file; cat f >&2`, "in file\n", 0},
		{`read x; read y; echo $y $x`, "two one\n", 0},
		{`env -u HOME sh -c 'echo ${HOME:-none}'; env B=2 sh -c 'echo $B'`, "none\n2\n", 0},
	}
	for _, tt := range tests {
		got, code := toolbox(t, dir, "one\ntwo\n", "sh", "-c", tt.script)
		if got != tt.want || code != tt.code {
			t.Errorf("%s\n got %d %q\nwant %d %q", tt.script, code, got, tt.code, tt.want)
		}
	}
	if got, _ := toolbox(t, dir, "echo a\necho b; exit 5\necho c\n", "sh"); got != "a\nb\n" {
		t.Errorf("script through stdin: %q", got)
	}
	if got, _ := toolbox(t, dir, "", "sh", "-ec", `echo $0 "$@"`, "name", "x y", "z"); got != "name x y z\n" {
		t.Errorf("parameters: %q", got)
	}
}

// TestCommands runs command lines of the other programs.
func TestCommands(t *testing.T) {
	dir := box(t)
	tests := []struct{ script, want string }{
		{`printf 'b 2\na 10\nc 1\n' | sort`, "a 10\nb 2\nc 1\n"},
		{`printf 'b 2\na 10\nc 1\n' | sort -k2 -n -r`, "a 10\nb 2\nc 1\n"},
		{`printf 'b:2\na:10\n' | sort -t: -k2 -n`, "b:2\na:10\n"},
		{`printf 'a\na\nb\n' | uniq -c`, "      2 a\n      1 b\n"},
		{`printf 'a\nb\na\n' | sort -u`, "a\nb\n"},
		{`printf 'one two\nthree\n' | wc`, "2 3 14\n"},
		{`printf '1\n2\n3\n' | head -2 | tail -n +2`, "2\n"},
		{`printf abc | head -c 2`, "ab"},
		{`echo a:b:c | cut -d: -f1,3; echo abcdef | cut -c2-4`, "a:c\nbcd\n"},
		{`echo Hello | tr a-z A-Z | tr -d L; echo aabb | tr -s a-z; echo x1y2 | tr -cd 0-9`, "HEO\nab\n12"},
		{`printf 'foo\nbar\nFOO\n' | grep -in foo; echo a+b | grep -F + ; echo aab | grep -o 'a\{2\}'; echo ab | grep -Eo 'a|b'`, "1:foo\n3:FOO\na+b\naa\na\nb\n"},
		{`echo x | grep y; echo $?; echo x | grep '[' 2>/dev/null; echo $?`, "1\n2\n"},
		{`echo hello world | sed 's/\(h\w*\) \(.*\)/\2 \1/; s/o/0/g'; printf 'a\nb\nc\n' | sed -n '2p;/c/p'; printf 'a\nb\n' | sed '$d'`, "w0rld hell0\nb\nc\na\n"},
		{`echo a/b | sed 's|/|\\|'; echo x > f; sed -i s/x/y/ f; cat f`, "a\\b\ny\n"},
		{`basename /a/b.c .c; dirname /a/b/c; dirname c`, "b\n/a/b\n.\n"},
		{`mkdir -p a/b; touch a/b/c; ln -s b a/l; find a | sort; find a -type l; find a -name c -exec echo found {} \;; rm -r a; ls`, "a\na/b\na/b/c\na/l\na/l\nfound a/b/c\n"}, //nolint:dupword // what the commands print
		{`mkdir d; touch d/x d/y; find d -name x -delete; ls d; find d -delete; ls`, "y\n"},
		{`echo data > f; cp f g; mv g h; cat h; chmod 600 h; stat -c '%a %s %F' h; ln h i; stat -c %h i`, "data\n600 5 regular file\n2\n"},
		{`mkdir d; echo x > d/f; tar -czf a.tgz d; rm -r d; tar -xzf a.tgz; cat d/f; tar tf a.tgz`, "x\nd/\nd/f\n"},
		{`echo abc | gzip | gunzip; echo abc > f; gzip f; ls; zcat f.gz; gunzip f.gz; cat f`, "abc\nf.gz\nabc\nabc\n"}, //nolint:dupword // what the commands print
		{`printf abc | sha256sum; printf abc > f; sha256sum f > s; sha256sum -c s`, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  -\nf: OK\n"},
		{`echo hi | base64 | base64 -d; echo a b | xargs echo x`, "hi\nx a b\n"},
		{`dd if=/dev/zero of=f bs=1K count=3 status=none; wc -c f; truncate -s 1M f; stat -c %s f`, "3072 f\n1048576\n"},
		{`seq 3 -1 1 | tr '\n' ' '; seq 2`, "3 2 1 1\n2\n"},
		{`echo a | tee f; echo b | tee -a f >/dev/null; cat f`, "a\na\nb\n"}, //nolint:dupword // what the commands print
		{`timeout 0.05 sleep 9; echo $?; timeout 5 sh -c 'exit 6'; echo $?`, "124\n6\n"},
		{`readlink -f /proc/self/../1/../ >/dev/null && ln -s t l && readlink l; rmdir nosuch 2>/dev/null; echo $?`, "t\n1\n"},
		{`date -u -d @0 '+%Y-%m-%d %H:%M:%S %s'`, "1970-01-01 00:00:00 0\n"},
		{`yes | head -2; true; echo $?; false; echo $?`, "y\ny\n0\n1\n"}, //nolint:dupword // what the commands print
		{`ls -1 nosuch 2>/dev/null; echo $?; touch b a; ls; mkdir .h; ls -A`, "1\na\nb\n.h\na\nb\n"},
		{`which sh >/dev/null && echo found; which nosuch; echo $?`, "found\n1\n"},
		{`head -z 2>/dev/null; echo $?`, "2\n"},
		{`id -u; id -un; whoami`, "0\nroot\nroot\n"}, //nolint:dupword // what the commands print
	}
	kerneltest.Root(t)
	for _, tt := range tests {
		if got, _ := toolbox(t, dir, "", "sh", "-c", tt.script); got != tt.want {
			t.Errorf("%s\n got %q\nwant %q", tt.script, got, tt.want)
		}
	}
}

func TestNetworkCommands(t *testing.T) {
	dir := box(t)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/go":
			http.Redirect(w, r, "/there", http.StatusFound)
		case "/there":
			_, _ = w.Write([]byte("content\n"))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer s.Close()
	if got, code := toolbox(t, dir, "", "wget", "-qO-", s.URL+"/go"); got != "content\n" || code != 0 {
		t.Errorf("wget: %d %q", code, got)
	}
	if got, code := toolbox(t, dir, "", "wget", "-qO-", s.URL+"/no"); !strings.Contains(got, "404") || code != 1 {
		t.Errorf("wget of nothing: %d %q", code, got)
	}
	host, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := toolbox(t, dir, "GET /there HTTP/1.0\r\n\r\n", "nc", host, port); !strings.HasSuffix(got, "content\n") {
		t.Errorf("nc: %q", got)
	}
	if got, _ := toolbox(t, dir, "", "ip", "addr"); !strings.Contains(got, "inet 127.0.0.1/8") {
		t.Errorf("ip addr: %q", got)
	}
	if got, _ := toolbox(t, dir, "", "nslookup", "localhost"); !strings.Contains(got, "127.0.0.1") {
		t.Errorf("nslookup: %q", got)
	}
}

func TestNames(t *testing.T) {
	dir := box(t)
	got, code := toolbox(t, dir, "", "lade-toolbox", "--list")
	if code != 0 || !slices.Equal(strings.Fields(got), names()) {
		t.Errorf("--list: %d %q", code, got)
	}
	if got, _ := toolbox(t, dir, "", "lade-toolbox", "echo", "x"); got != "x\n" {
		t.Errorf("by its own name: %q", got)
	}
	if _, code := toolbox(t, dir, "", "lade-toolbox", "nosuch"); code != 127 {
		t.Errorf("unknown command: %d", code)
	}
}
