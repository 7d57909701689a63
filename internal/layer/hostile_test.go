package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lade/internal/errdefs"
	"lade/test/kerneltest"
)

// hostile is a tar that means no good, and what must come of it.
type hostile struct {
	name string
	tar  string
	err  string            // part of the error, whose class is Invalid or Exhausted
	want map[string]string // else all that is in the layer
}

// canaryDir stands in the tars for a directory outside of the layer.
const canaryDir = "/canary"

var longName = strings.Repeat("n", 255)

// nameCases are names and what they mean in a layer: a path, nothing ("-"), or an
// error.
var nameCases = []struct{ name, path, err string }{
	{"../x", "", `".."`},
	{"../../../../../../../../tmp/x", "", `".."`},
	{"..", "", `".."`},
	{"a/..", "", `".."`},
	{"a/../x", "", `".."`},
	{"a/../../x", "", `".."`},
	{"./../x", "", `".."`},
	{"/../x", "", `".."`},
	{"a//..//x", "", `".."`},
	{"/canary/x", "canary/x", ""},
	{"//canary///x", "canary/x", ""},
	{"/./canary/./x", "canary/x", ""},
	{"./x", "x", ""},
	{"a/./x", "a/x", ""},
	{"...", "...", ""},
	{"..x/x..", "..x/x..", ""},
	{"a\\..\\x", "a\\..\\x", ""},
	{"C:\\x", "C:\\x", ""},
	{"new\nline", "new\nline", ""},
	{"\x1b[31mred", "\x1b[31mred", ""},
	{"\xff\xfe", "\xff\xfe", ""},
	{" ", " ", ""},
	{longName, longName, ""},
	{longName + "n", "", "name of 256 bytes"},
	{strings.Repeat("d/", 2000) + "x", "", "deep"},
	{strings.Repeat(longName+"/", 16) + "x", "", "path of 4097 bytes"},
	{"", "", "root is not a directory"},
	{".", "", "root is not a directory"},
	{"/", "", "root is not a directory"},
	{".wh.", "", "whiteout"},
	{"a/.wh.", "", "whiteout"},
	{".wh..", "", "whiteout"},
	{".wh...", "", "whiteout"},
	{"a/.wh...", "", "whiteout"},
	{".wh..wh.", "-", ""},
	{".wh..wh.plnk/x", "-", ""},
	{"a/.wh..wh.aufs", "-", ""},
	{".wh..wh.plnk/.wh..wh..opq", "-", ""},
	{".wh.a/x", "", "name of a whiteout"},
	{"a/.wh.b/.wh..wh..opq", "", "name of a whiteout"},
	{".wh.../x", "", "name of a whiteout"},
	{"a/.wh..wh.x/.wh..wh..opq", "", "name of a whiteout"},
}

// typeCases are the types with which each name is tried.
var typeCases = []struct {
	entry rawEntry
	want  string
}{
	{rawEntry{kind: '0', content: "evil"}, `file 644 "evil"`},
	{rawEntry{kind: '5', mode: 0o777}, "dir 777"},
	{rawEntry{kind: '2', link: canaryDir}, "-> " + canaryDir},
	{rawEntry{kind: '1', link: "/first"}, `file 644 "1" x2`},
	{rawEntry{kind: '3', major: 1, minor: 3}, "char 644 1:3"},
	{rawEntry{kind: '6'}, "fifo 644"},
}

func nameCorpus() []hostile {
	var all []hostile
	for _, n := range nameCases {
		for _, c := range typeCases {
			e := c.entry
			e.name = n.name
			h := hostile{
				name: fmt.Sprintf("%.40q as %c", n.name, e.kind), tar: rawTar(rawEntry{name: "first", content: "1"}, e),
				err: n.err, want: map[string]string{"first": `file 644 "1"`},
			}
			if e.kind == '5' && strings.HasPrefix(n.err, "root is not") {
				h.err, h.want["."] = "", c.want
			}
			switch {
			case n.path != "" && n.path != "-":
				for p := filepath.Dir(n.path); p != "."; p = filepath.Dir(p) {
					h.want[p] = "dir 755"
				}
				h.want[n.path] = c.want
				if e.kind == '1' {
					h.want["first"] = c.want
				}
			}
			all = append(all, h)
		}
	}
	return all
}

// ways are the tricks with more than one entry.
func ways() []hostile {
	file := func(name, content string) rawEntry { return rawEntry{name: name, content: content} }
	sym := func(name, target string) rawEntry { return rawEntry{kind: '2', name: name, link: target} }
	hard := func(name, target string) rawEntry { return rawEntry{kind: '1', name: name, link: target} }
	dir := func(name string) rawEntry { return rawEntry{kind: '5', name: name, mode: 0o777} }
	type m = map[string]string
	xattr := func(k, v string) string {
		return rawTar(rawEntry{name: "f", content: "x", pax: m{"SCHILY.xattr." + k: v}})
	}
	return []hostile{
		{
			"write through an absolute link", rawTar(sym("s", canaryDir), file("s/x", "evil")), "",
			m{"s": "-> /canary", "canary": "dir 755", "canary/x": `file 644 "evil"`},
		},
		{
			"write through a relative link", rawTar(sym("a/s", "../../../../../canary"), file("a/s/x", "evil")), "",
			m{"a": "dir 755", "a/s": "-> ../../../../../canary", "canary": "dir 755", "canary/x": `file 644 "evil"`},
		},
		{
			"write through a chain of links", rawTar(sym("1", "2"), sym("2", "d/3"), sym("d/3", "/canary"), file("1/x", "evil")), "",
			m{"1": "-> 2", "2": "-> d/3", "d": "dir 755", "d/3": "-> /canary", "canary": "dir 755", "canary/x": `file 644 "evil"`},
		},
		{"write over a link to a file", rawTar(sym("s", "/canary/canary"), file("s", "evil")), "", m{"s": `file 644 "evil"`}},
		{"loop", rawTar(sym("s", "s"), file("s/x", "evil")), "too many symbolic links", nil},
		{"loop of two", rawTar(sym("a", "b/c"), sym("b", "a"), file("a/x", "evil")), "too many symbolic links", nil},
		{"growing loop", rawTar(sym("a", "a/a"), file("a/x", "evil")), "too many symbolic links", nil},
		{"link with a long name in it", rawTar(sym("s", longName+"n"), file("s/x", "")), "name of 256 bytes", nil},
		{
			"link through links up", rawTar(sym("s", strings.Repeat("../", 1000)), file("s/x", "y")), "",
			m{"s": "-> " + strings.Repeat("../", 1000), "x": `file 644 "y"`},
		},
		{
			"directory over a link", rawTar(sym("s", canaryDir), dir("s"), file("s/canary", "evil")), "",
			m{"s": "dir 777", "s/canary": `file 644 "evil"`},
		},
		{
			"chmod through a link", rawTar(sym("s", canaryDir), rawEntry{kind: '5', name: "s/", mode: 0o4777, uid: 1000}), "",
			m{"s": "dir 4777 of 1000:1000"},
		},
		{
			"link over a directory", rawTar(dir("d"), file("d/f", "1"), sym("d", canaryDir), file("d/g", "2")), "",
			m{"d": "-> /canary", "canary": "dir 755", "canary/g": `file 644 "2"`},
		},
		{"empty link", rawTar(sym("s", "")), "target of 0 bytes", nil},
		{"huge link", rawTar(sym("s", strings.Repeat("x", 4096))), "target of 4096 bytes", nil},
		{
			"link of the greatest length", rawTar(sym("s", strings.Repeat("x/", 2047)+"x")), "",
			m{"s": "-> " + strings.Repeat("x/", 2047) + "x"},
		},
		{"file as a directory", rawTar(file("f", "1"), file("f/x", "2")), "not a directory", nil},
		{"fifo as a directory", rawTar(rawEntry{kind: '6', name: "p"}, file("p/x", "2")), "not a directory", nil},
		{"device as a directory", rawTar(rawEntry{kind: '3', name: "d"}, file("d/x", "2")), "not a directory", nil},

		{"hard link outside", rawTar(hard("h", "../canary/canary")), `".."`, nil},
		{"hard link to an absolute path", rawTar(hard("h", "/canary/canary")), "", m{"pending h": "canary/canary"}},
		{
			"hard link through a link", rawTar(sym("s", canaryDir), hard("h", "s/canary")), "",
			m{"s": "-> /canary", "pending h": "s/canary"},
		},
		{
			"hard link to a link outside", rawTar(sym("s", "/canary/canary"), hard("h", "s"), file("h", "evil")), "",
			m{"s": "-> /canary/canary", "h": `file 644 "evil"`},
		},
		{"two names of a link", rawTar(sym("s", "/canary"), hard("h", "s")), "", m{"s": "-> /canary x2", "h": "-> /canary x2"}},
		{
			"write through two names of a link", rawTar(sym("s", canaryDir), hard("h", "s"), file("h/x", "evil")), "",
			m{"s": "-> /canary x2", "h": "-> /canary x2", "canary": "dir 755", "canary/x": `file 644 "evil"`},
		},
		{"hard link to a directory", rawTar(dir("d"), hard("h", "d")), "hard link to the directory", nil},
		{"hard link to the root", rawTar(hard("h", "/")), "hard link to the directory", nil},
		{"hard link to nothing", rawTar(hard("h", "")), "hard link to the directory", nil},
		{"hard link to itself", rawTar(file("f", "1"), hard("f", "f")), "", m{"f": `file 644 "1"`}},
		{"hard link to itself alone", rawTar(hard("f", "f")), "", m{"pending f": "f"}},
		{"hard link to a later file", rawTar(hard("h", "f"), file("f", "1")), "", m{"pending h": "f", "f": `file 644 "1"`}},
		{"hard link below a pending one", rawTar(hard("h", "f"), file("h/x", "1")), "not a directory", nil},
		{"hard link to a whiteout", rawTar(file(".wh.f", ""), hard("h", "f")), "which the layer removes", nil},
		{
			"chain of hard links", rawTar(file("a", "1"), hard("b", "a"), hard("c", "b")), "",
			m{"a": `file 644 "1" x3`, "b": `file 644 "1" x3`, "c": `file 644 "1" x3`},
		},
		{
			"hard link outlives its target", rawTar(file("a", "1"), hard("b", "a"), file("a", "2")), "",
			m{"a": `file 644 "2"`, "b": `file 644 "1"`},
		},
		{
			"hard link outlives the directory", rawTar(file("d/a", "1"), hard("b", "d/a"), file("d", "2")), "",
			m{"d": `file 644 "2"`, "b": `file 644 "1"`},
		},
		{
			"hard link over a directory", rawTar(file("a", "1"), dir("d"), file("d/x", "2"), hard("d", "a")), "",
			m{"a": `file 644 "1" x2`, "d": `file 644 "1" x2`},
		},
		{
			"hard link with data", rawTar(file("a", "1"), rawEntry{kind: '1', name: "b", link: "a", size: "00000000777"}, file("c", "3")), "",
			m{"a": `file 644 "1" x2`, "b": `file 644 "1" x2`, "c": `file 644 "3"`},
		},

		{"file twice", rawTar(file("f", "1"), file("f", "22")), "", m{"f": `file 644 "22"`}},
		{
			"directory, file, directory", rawTar(dir("d"), file("d/x", "1"), file("d", "2"), dir("d"), file("d/y", "3")), "",
			m{"d": "dir 777", "d/y": `file 644 "3"`},
		},
		{
			"directory twice", rawTar(dir("d"), file("d/x", "1"), rawEntry{kind: '5', name: "d", mode: 0o700, uid: 3}), "",
			m{"d": "dir 700 of 3:3", "d/x": `file 644 "1"`},
		},
		{
			"directory after its files", rawTar(file("d/x", "1"), rawEntry{kind: '5', name: "d", mode: 0o700}), "",
			m{"d": "dir 700", "d/x": `file 644 "1"`},
		},
		{"root twice", rawTar(dir("./"), rawEntry{kind: '5', name: "/", mode: 0o711, uid: 5}), "", m{".": "dir 711 of 5:5"}},
		{"root as a link", rawTar(sym("./", canaryDir), file("x", "1")), "root is not a directory", nil},

		{"whiteout", rawTar(file(".wh.x", "")), "", m{"x": "whiteout"}},
		{"whiteout of an absolute path", rawTar(file("/canary/.wh.canary", "")), "", m{"canary": "dir 755", "canary/canary": "whiteout"}},
		{
			"whiteout through a link", rawTar(sym("s", canaryDir), file("s/.wh.canary", "")), "",
			m{"s": "-> /canary", "canary": "dir 755", "canary/canary": "whiteout"},
		},
		{"whiteout outside", rawTar(file("../.wh.canary", "")), `".."`, nil},
		{"whiteout of a whiteout", rawTar(file(".wh..wh.x", "")), "", m{}},
		{"whiteout of .wh.", rawTar(file("a/.wh..wh..wh.x", "")), "", m{}},
		{"whiteout as a link", rawTar(sym(".wh.x", canaryDir)), "", m{"x": "whiteout"}},
		{"whiteout as a directory", rawTar(dir(".wh.x/")), "", m{"x": "whiteout"}},
		{"whiteout after its file", rawTar(file("f", "1"), file(".wh.f", "")), "", m{"f": `file 644 "1"`}},
		{"whiteout before its file", rawTar(file(".wh.f", ""), file("f", "1")), "", m{"f": `file 644 "1"`}},
		{
			"whiteout before its directory", rawTar(file(".wh.d", ""), file("d/f", "1")), "",
			m{"d": "dir 755 opaque", "d/f": `file 644 "1"`},
		},
		{
			"whiteout after its directory", rawTar(dir("d"), file("d/f", "1"), file(".wh.d", "")), "",
			m{"d": "dir 777 opaque", "d/f": `file 644 "1"`},
		},
		{
			"whiteouts share nothing that shows", rawTar(file(".wh.a", ""), file(".wh.b", ""), file("d/.wh.c", "")), "",
			m{"a": "whiteout", "b": "whiteout", "d": "dir 755", "d/c": "whiteout"},
		},
		{"opaque", rawTar(file("d/.wh..wh..opq", ""), file("d/f", "1")), "", m{"d": "dir 755 opaque", "d/f": `file 644 "1"`}},
		{"opaque root", rawTar(file(".wh..wh..opq", "")), "", m{".": "dir 755 opaque"}},
		{"opaque with content", rawTar(file("d/.wh..wh..opq", "evil")), "", m{"d": "dir 755 opaque"}},
		{
			"opaque through a link", rawTar(sym("s", canaryDir), file("s/.wh..wh..opq", "")), "",
			m{"s": "-> /canary", "canary": "dir 755 opaque"},
		},
		{"opaque below a file", rawTar(file("f", "1"), file("f/.wh..wh..opq", "")), "not a directory", nil},
		{"opaque stays", rawTar(file("d/.wh..wh..opq", ""), dir("d")), "", m{"d": "dir 777 opaque"}},
		{"opaque goes with its directory", rawTar(file("d/.wh..wh..opq", ""), file("d", "1"), dir("d")), "", m{"d": "dir 777"}},

		{"other path in PAX", rawTar(rawEntry{name: "safe", content: "evil", pax: m{"path": "../../canary/x"}}), `".."`, nil},
		{"safe path in PAX", rawTar(rawEntry{name: "../../canary/x", content: "1", pax: m{"path": "safe"}}), "", m{"safe": `file 644 "1"`}},
		{"other link in PAX", rawTar(rawEntry{kind: '1', name: "h", link: "safe", pax: m{"linkpath": "../../canary/canary"}}), `".."`, nil},
		{"NUL in PAX", rawTar(rawEntry{name: "safe", pax: m{"path": "a\x00/../../canary/x"}}), "invalid tar header", nil},
		{"NUL in a link in PAX", rawTar(rawEntry{kind: '2', name: "s", link: "x", pax: m{"linkpath": "a\x00b"}}), "invalid tar header", nil},
		{"size in PAX", rawTar(rawEntry{name: "f", content: "12345", pax: m{"size": "3"}}), "", m{"f": `file 644 "123"`}},
		{"size in PAX beyond the end", rawTar(rawEntry{name: "f", content: "12345", pax: m{"size": "99999"}}), "unexpected EOF", nil},
		{"negative size in PAX", rawTar(rawEntry{name: "f", content: "12345", pax: m{"size": "-5"}}), "invalid tar header", nil},
		{"huge size in PAX", rawTar(rawEntry{name: "f", pax: m{"size": "9223372036854775807"}}), "more than", nil},
		{"huge sizes that overflow", rawTar(rawEntry{name: "f", content: "1"}, rawEntry{name: "g", pax: m{"size": "9223372036854775807"}}), "more than", nil},
		{"broken PAX", rawTar(rawEntry{kind: 'x', name: "p", content: "999 path=x\n"}, file("f", "1")), "invalid tar header", nil},
		{"PAX for nothing", rawTar(rawEntry{kind: 'x', name: "p", content: paxRecords(m{"path": "../x"})}), "", m{}},
		{
			"global PAX", rawTar(rawEntry{kind: 'g', name: "g", content: paxRecords(m{"path": "../../canary/x", "size": "0"})}, file("f", "1")), "",
			m{"f": `file 644 "1"`},
		},
		{"GNU long name", rawTar(rawEntry{kind: 'L', name: "././@LongLink", content: "../../canary/x\x00"}, file("safe", "1")), `".."`, nil},
		{
			"GNU long name with NUL", rawTar(rawEntry{kind: 'L', name: "././@LongLink", content: "a\x00/../../b\x00"}, file("safe", "1")), "",
			m{"a": `file 644 "1"`},
		},
		{"GNU long link", rawTar(rawEntry{kind: 'K', name: "././@LongLink", content: "../../canary/x\x00"}, hard("h", "safe")), `".."`, nil},
		{"GNU long name of a megabyte", rawTar(rawEntry{kind: 'L', name: "././@LongLink", content: strings.Repeat("x", 900<<10)}, file("safe", "1")), "path of", nil},
		{"GNU long name of two megabytes", rawTar(rawEntry{kind: 'L', name: "././@LongLink", content: strings.Repeat("x", 2<<20)}, file("safe", "1")), "too long", nil},

		{"xattr opaque", xattr("trusted.overlay.opaque", "y"), "", m{"f": `file 644 "x" trusted.overlay.overlay.opaque="y"`}},
		{"xattr redirect", xattr("trusted.overlay.redirect", "/canary"), "", m{"f": `file 644 "x" trusted.overlay.overlay.redirect="/canary"`}},
		{"xattr metacopy", xattr("trusted.overlay.metacopy", ""), "", m{"f": `file 644 "x" trusted.overlay.overlay.metacopy=""`}},
		{"xattr origin, escaped already", xattr("trusted.overlay.overlay.origin", "z"), "", m{"f": `file 644 "x" trusted.overlay.overlay.overlay.origin="z"`}},
		{"xattr of SELinux", xattr("security.selinux", "system_u"), "", m{"f": `file 644 "x"`}},
		{"xattr of IMA", xattr("security.ima", "x"), "", m{"f": `file 644 "x"`}},
		{"xattr of no name space", xattr("evil", "x"), "", m{"f": `file 644 "x"`}},
		{"xattr system", xattr("system.evil", "x"), "", m{"f": `file 644 "x"`}},
		{"xattr without a name", xattr("user.", "x"), "attribute name", nil},
		{"xattr with a long name", xattr("user."+strings.Repeat("x", 251), "x"), "attribute name of 256 bytes", nil},
		{"xattr with a long value", xattr("user.x", strings.Repeat("x", 65536)), "65536 bytes", nil},
		{"ACL of no known form", xattr("system.posix_acl_access", "evil"), "malformed attribute", nil},
		{"ACL cut off", xattr("system.posix_acl_default", "\x02\x00\x00\x00\x01"), "malformed attribute", nil},

		{"owner beyond 32 bits", rawTar(rawEntry{name: "f", uid: 1 << 32}), "owner 4294967296", nil},
		{"owner that means no change", rawTar(rawEntry{name: "f", uid: 1<<32 - 1}), "owner 4294967295", nil},
		{"greatest owner", rawTar(rawEntry{name: "f", uid: 1<<32 - 2}), "", m{"f": `file 644 "" of 4294967294:4294967294`}},
		{"negative owner", rawTar(rawEntry{name: "f", uid: -1}), "owner -1", nil},
		{"mode with a type", rawTar(rawEntry{name: "f", mode: 0o40777}), "", m{"f": `file 777 ""`}},
		{"all mode bits", rawTar(rawEntry{name: "f", mode: 0o7777, uid: 5}), "", m{"f": `file 7777 "" of 5:5`}},
		{"device beyond 12 bits", rawTar(rawEntry{kind: '4', name: "d", major: 1 << 12}), "device 4096:0", nil},
		{"device beyond 20 bits", rawTar(rawEntry{kind: '3', name: "d", minor: 1 << 20}), "device 0:1048576", nil},
		{"greatest device", rawTar(rawEntry{kind: '4', name: "d", major: 1<<12 - 1, minor: 1<<20 - 1}), "", m{"d": "block 644 4095:1048575"}},
		{"kernel memory", rawTar(rawEntry{kind: '3', name: "dev/mem", major: 1, minor: 1}), "", m{"dev": "dir 755", "dev/mem": "char 644 1:1"}},
		{"type Z", rawTar(rawEntry{kind: 'Z', name: "f"}), "unknown type 'Z'", nil},
		{"volume label", rawTar(rawEntry{kind: 'V', name: "f"}), "unknown type 'V'", nil},
		{"multi-volume", rawTar(rawEntry{kind: 'M', name: "f", content: "x"}), "unknown type 'M'", nil},

		{"nothing", "", "", m{}},
		{"no end", rawTar(file("f", "1"))[:1024], "", m{"f": `file 644 "1"`}},
		{"no padding", rawTar(file("f", "12345"))[:517], "", m{"f": `file 644 "12345"`}},
		{"half an end", rawTar(file("f", "1"))[:1024+512], "", m{"f": `file 644 "1"`}},
		{"cut in a header", rawTar(file("f", "1"))[:300], "unexpected EOF", nil},
		{"cut in content", rawTar(file("f", strings.Repeat("x", 2000)))[:1500], "unexpected EOF", nil},
		{"entries after the end", rawTar(file("f", "1")) + rawTar(file("../x", "2")), "", m{"f": `file 644 "1"`}},
		{"rubbish after the end", rawTar(file("f", "1")) + strings.Repeat("rubbish", 99), "", m{"f": `file 644 "1"`}},
		{"rubbish", strings.Repeat("rubbish", 200), "invalid tar header", nil},
		{"gzip", "\x1f\x8b\x08\x00" + strings.Repeat("\x00", 1000), "invalid tar header", nil},
	}
}

func corpus() []hostile { return append(nameCorpus(), ways()...) }

// TestHostile unpacks every hostile tar in both forms. Each comes to the very end
// that is expected of it, and nothing outside changes.
func TestHostile(t *testing.T) {
	kerneltest.Root(t)
	// Where paths that get out would lead to.
	if err := os.Mkdir(canaryDir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(canaryDir) })
	if err := os.WriteFile(filepath.Join(canaryDir, "canary"), []byte("alive"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := outside(t, canaryDir)
	all := corpus()
	if len(all) < 200 {
		t.Errorf("only %d tars", len(all))
	}
	for _, h := range all {
		t.Run(h.name, func(t *testing.T) {
			for form, write := range map[string]func(testing.TB, string, Limits) (map[string]string, error){"image": writeImage, "directory": writeDir} {
				got, err := write(t, h.tar, Limits{})
				switch {
				case h.err != "":
					if err == nil || !strings.Contains(err.Error(), h.err) {
						t.Errorf("%s: error %v, want one with %q", form, err, h.err)
					}
					if c := errdefs.ClassOf(err); err != nil && c != errdefs.Invalid && c != errdefs.Exhausted {
						t.Errorf("%s: class %v of %v", form, c, err)
					}
				case err != nil:
					t.Errorf("%s: %v", form, err)
				default:
					if diff := cmp.Diff(h.want, got); diff != "" {
						t.Errorf("%s: -want +got:\n%s", form, diff)
					}
				}
			}
		})
	}
	if diff := cmp.Diff(before, outside(t, canaryDir)); diff != "" {
		t.Errorf("outside: -before +after:\n%s", diff)
	}
}

// TestHostileHasTeeth gives the corpus to an unpacker as one writes it in ten
// minutes. A corpus that does not break it would prove nothing.
func TestHostileHasTeeth(t *testing.T) {
	kerneltest.Root(t)
	broken := 0
	for _, h := range corpus() {
		if strings.Contains(h.tar, "d/d/d/d/d/d/d/d/d/") || strings.Contains(h.tar, strings.Repeat("../", 1000)) {
			continue // deep, and slow to take away again
		}
		top := t.TempDir()
		dest := filepath.Join(top, "1/2/3/4/5/6/7/8/dest")
		canary := filepath.Join(top, "canary")
		for _, d := range []string{dest, canary} {
			if err := os.MkdirAll(d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(canary, "canary"), []byte("alive"), 0o600); err != nil {
			t.Fatal(err)
		}
		files := func() map[string]string {
			m := outside(t, top)
			for p := range m {
				if strings.HasPrefix(p, dest) {
					delete(m, p)
				} else if e, _ := entryAt(p); e.IsDir() {
					m[p] = fmt.Sprintf("dir %o", e.Mode) // times change on the way down
				}
			}
			return m
		}
		before := files()
		naive(h.tar, dest, canary)
		if !cmp.Equal(before, files()) {
			broken++
		}
	}
	t.Logf("%d tars get out of a naive unpacker", broken)
	if broken < 25 {
		t.Errorf("only %d tars get out of a naive unpacker", broken)
	}
}

// naive unpacks a tar by paths. What the tars call canaryDir is at canary.
func naive(text, dest, canary string) {
	for tr := tar.NewReader(strings.NewReader(text)); ; {
		h, err := tr.Next()
		if err != nil {
			return
		}
		path := filepath.Join(dest, h.Name)
		_ = os.MkdirAll(filepath.Dir(path), 0o755)
		link := strings.Replace(h.Linkname, canaryDir, canary, 1)
		base := filepath.Base(path)
		switch {
		case base == whiteoutOpaque:
			_ = os.RemoveAll(filepath.Dir(path) + "/canary")
		case strings.HasPrefix(base, whiteoutPrefix):
			_ = os.RemoveAll(filepath.Join(filepath.Dir(path), strings.TrimPrefix(base, whiteoutPrefix)))
		case h.Typeflag == tar.TypeDir:
			_ = os.MkdirAll(path, 0o755)
			_ = os.Chmod(path, os.FileMode(h.Mode&0o777))
		case h.Typeflag == tar.TypeSymlink:
			_ = os.Symlink(link, path)
		case h.Typeflag == tar.TypeLink:
			if !strings.HasPrefix(link, canary) {
				link = filepath.Join(dest, link)
			}
			_ = os.Link(link, path)
		case h.Typeflag == tar.TypeReg:
			if f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644); err == nil {
				_, _ = io.Copy(f, tr)
				_ = f.Close()
			}
		}
	}
}
