package account

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const passwd = `root:x:0:0:root:/root:/bin/sh
# a comment
bad line
daemon:x:1:1:daemon:/usr/sbin:/bin/false
app:x:1000:1001:App:/home/app:/bin/sh
evil:x:4294967295:0::/:/bin/sh
neg:x:-1:0::/:/bin/sh
nl:x:7:7::relative:/bin/sh
short:x:8
`

const group = `root:x:0:
bin:x:1:root,daemon
app:x:1001:
staff:x:50:app,other
wheel:x:10:root,app
huge:x:99999999999:app
`

func TestParseUserRefuses(t *testing.T) {
	for _, s := range []string{
		"4294967296", "4294967295", "2147483648", "-1", "0x0", "0X1f", "1000:", ":1000", ":", "+0", " 0", "0 ", "\t0", "00", "007",
		"1e3", "1_000", "0b1", "0o7", "1:2:3", "a:b:c", "a\nb", "a b", "app:+1", "app:-1", "app: 1", "a/b", "-app", "+app", "a,b", "0\x00",
		"99999999999999999999999", "+", "-", "app\x7f", "1.5", strings.Repeat("a", 300),
	} {
		if u, err := ParseUser(s); err == nil {
			t.Errorf("ParseUser(%q) = %+v; want an error", s, u)
		}
	}
}

func TestResolve(t *testing.T) {
	for _, c := range []struct {
		user  string
		extra []string
		want  Identity
		err   string
	}{
		{user: "", want: Identity{Groups: []uint32{0, 1, 10}, Home: "/root", Name: "root"}},
		{user: "0", want: Identity{Groups: []uint32{0, 1, 10}, Home: "/root", Name: "root"}},
		{user: "app", want: Identity{UID: 1000, GID: 1001, Groups: []uint32{1001, 50, 10}, Home: "/home/app", Name: "app"}},
		{user: "1000", want: Identity{UID: 1000, GID: 1001, Groups: []uint32{1001, 50, 10}, Home: "/home/app", Name: "app"}},
		{user: "app:staff", want: Identity{UID: 1000, GID: 50, Groups: []uint32{50}, Home: "/home/app", Name: "app"}},
		{user: "app:7", want: Identity{UID: 1000, GID: 7, Groups: []uint32{7}, Home: "/home/app", Name: "app"}},
		{user: "2000", want: Identity{UID: 2000, Groups: []uint32{0}, Home: "/"}},
		{user: "2000:3000", want: Identity{UID: 2000, GID: 3000, Groups: []uint32{3000}, Home: "/"}},
		{user: "2147483647", want: Identity{UID: MaxID, Groups: []uint32{0}, Home: "/"}},
		{user: "nl", want: Identity{UID: 7, GID: 7, Groups: []uint32{7}, Home: "/", Name: "nl"}},
		{user: "2000", extra: []string{"staff", "9", "0"}, want: Identity{UID: 2000, Groups: []uint32{0, 50, 9}, Home: "/"}},
		{user: "nobody", err: "unable to find user nobody: no matching entries in passwd file"},
		{user: "evil", err: "unable to find user evil: no matching entries in passwd file"},
		{user: "short", err: "unable to find user short: no matching entries in passwd file"},
		{user: "app:huge", err: "unable to find group huge: no matching entries in group file"},
		{user: "0", extra: []string{"none"}, err: "unable to find group none: no matching entries in group file"},
	} {
		u, err := ParseUser(c.user)
		if err != nil {
			t.Errorf("ParseUser(%q): %v", c.user, err)
			continue
		}
		var extra []Group
		for _, s := range c.extra {
			g, err := ParseGroup(s)
			if err != nil {
				t.Fatal(err)
			}
			extra = append(extra, g)
		}
		got, err := u.Resolve(Files{[]byte(passwd), []byte(group)}, extra)
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%q: error %v; want %s", c.user, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.user, err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", c.user, d)
		}
	}
}

func TestResolveWithoutFiles(t *testing.T) {
	u, _ := ParseUser("")
	got, err := u.Resolve(Files{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Identity{Groups: []uint32{0}, Home: "/"}, got); d != "" {
		t.Error(d)
	}
}

func FuzzResolve(f *testing.F) {
	f.Add("app:staff", passwd, group)
	f.Add("0", "a:b:0:0:::\n", "x:y:0:\xff")
	f.Add("1000:", "", "")
	f.Fuzz(func(t *testing.T, s, pw, gr string) {
		u, err := ParseUser(s)
		if err != nil {
			return
		}
		id, err := u.Resolve(Files{[]byte(pw), []byte(gr)}, nil)
		if err != nil {
			return
		}
		if id.UID > MaxID || id.GID > MaxID || len(id.Groups) == 0 || id.Groups[0] != id.GID || !strings.HasPrefix(id.Home, "/") {
			t.Errorf("%q: %+v", s, id)
		}
		if isDecimal(s) && s != "0" && id.UID == 0 {
			t.Errorf("%q became root", s)
		}
	})
}
