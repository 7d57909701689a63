package rules

import (
	"errors"
	"flag"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lade/internal/linux/nft"
	"lade/test/kerneltest"
)

var update = flag.Bool("update", false, "write golden files")

func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{Net: true}) }

func mac(s string) net.HardwareAddr {
	a, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return a
}

// example has one of each.
func example() Wanted {
	return Wanted{
		Networks: []Network{
			{Bridge: "lade0", Subnets: []netip.Prefix{netip.MustParsePrefix("10.76.0.0/22"), netip.MustParsePrefix("fd00:1ade::/64")}},
			{Bridge: "lade-inside", Subnets: []netip.Prefix{netip.MustParsePrefix("10.76.4.0/24")}, Internal: true},
			{Bridge: "lade-apart", Subnets: []netip.Prefix{netip.MustParsePrefix("10.76.5.0/24")}, Apart: true},
			{Bridge: "mybridge", Subnets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Unmasked: true},
		},
		Endpoints: []Endpoint{
			{Link: "lade01234567", MAC: mac("02:42:0a:4c:00:02"), Addresses: []netip.Addr{netip.MustParseAddr("10.76.0.2"), netip.MustParseAddr("fd00:1ade::2")}},
		},
		Ports: []Port{
			{6, netip.MustParseAddrPort("0.0.0.0:8080"), netip.MustParseAddrPort("10.76.0.2:80")},
			{6, netip.MustParseAddrPort("[::]:8080"), netip.MustParseAddrPort("[fd00:1ade::2]:80")},
			{17, netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("10.76.0.2:53")},
			{132, netip.MustParseAddrPort("[2001:db8::1]:99"), netip.MustParseAddrPort("[fd00:1ade::2]:99")},
		},
		Guard4: true, Guard6: true,
	}
}

// TestTables compares the tables as text.
func TestTables(t *testing.T) {
	var got string
	for _, table := range Tables("lade", "engine /run/lade", example()) {
		got += table.Text()
	}
	golden := filepath.Join("testdata", "rules.nft")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

func dial(tb testing.TB) *nft.Conn {
	tb.Helper()
	kerneltest.Root(tb)
	c, err := nft.Dial()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// install puts the example into the kernel until the test ends.
func install(tb testing.TB, c *nft.Conn, tables []nft.Table) {
	tb.Helper()
	if err := c.Replace(tables...); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Delete(tables...); err != nil {
			tb.Error(err)
		}
	})
}

// TestTextIsTrue: what the tables say of themselves is what nft reads in the
// kernel.
func TestTextIsTrue(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is not installed")
	}
	c := dial(t)
	tables := Tables("lade", "engine /run/lade", example())
	for range 2 { // in place of what is there
		install(t, c, tables)
	}
	for _, table := range tables {
		got, err := exec.CommandContext(t.Context(), "nft", "list", "table", table.Family.String(), table.Name).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, got)
		}
		if diff := cmp.Diff(normal(table.Text()), normal(string(got))); diff != "" {
			t.Errorf("%s", diff)
		}
	}
}

// normal puts elements in one line, in alphabetical order: nft has its own.
func normal(text string) string {
	// It knows one of the flags before 1.1.1, and prints it behind the comment
	// or in front of it; and says which program holds the table.
	text = regexp.MustCompile(`\tflags owner.*\n`).ReplaceAllString(text, "")
	text = regexp.MustCompile(` # progname .*`).ReplaceAllString(text, "")
	text = regexp.MustCompile(`\n\n+`).ReplaceAllString(text, "\n")
	return regexp.MustCompile(`(?s)elements = \{(.*?)\}`).ReplaceAllStringFunc(text, func(s string) string {
		list := strings.Split(strings.TrimSuffix(strings.TrimPrefix(s, "elements = {"), "}"), ",")
		for i := range list {
			list[i] = strings.TrimSpace(list[i])
		}
		slices.Sort(list)
		return "elements = { " + strings.Join(list, ", ") + " }"
	})
}

// TestDiff: what differs is told, and nothing else.
func TestDiff(t *testing.T) {
	c := dial(t)
	w := example()
	tables := Tables("lade", "engine /run/lade", w)
	for i := range tables {
		tables[i].Owned = false // so that nft can change it
	}
	diff := func() (all []string) {
		for _, table := range tables {
			lines, err := c.Diff(table)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, lines...)
		}
		return all
	}
	if d := diff(); !slices.Equal(d, []string{"- table inet lade", "- table bridge lade"}) {
		t.Errorf("without tables: %q", d)
	}
	install(t, c, tables)
	if d := diff(); len(d) > 0 {
		t.Errorf("just made: %q", d)
	}
	// One port and one network less, then there again.
	some := Elements("lade", Wanted{Networks: w.Networks[1:2], Ports: w.Ports[2:3], Endpoints: w.Endpoints})
	if err := c.Edit(nil, some); err != nil {
		t.Fatal(err)
	}
	d := diff()
	if !slices.Contains(d, `- bound4: 127.0.0.1 . udp . 53 : 10.76.0.2 . 53`) || !slices.Contains(d, `- closed: "lade-inside"`) || len(d) < 8 {
		t.Errorf("without some elements: %q", d)
	}
	if err := c.Edit(some, nil); err != nil {
		t.Fatal(err)
	}
	if d := diff(); len(d) > 0 {
		t.Errorf("there again: %q", d)
	}
	for _, args := range []string{
		"flush chain inet lade forward", "add rule inet lade forward accept", "insert rule inet lade postrouting accept",
		"delete chain bridge lade prerouting", "add element inet lade bridges { eth0 }", "flush map inet lade any6",
	} {
		if out, err := exec.CommandContext(t.Context(), "nft", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("nft %s: %v %s", args, err, out)
		}
		if d := diff(); len(d) == 0 {
			t.Errorf("after nft %s: no difference", args)
		}
		if err := c.Replace(tables...); err != nil {
			t.Fatal(err)
		}
		if d := diff(); len(d) > 0 {
			t.Errorf("after nft %s and a repair: %q", args, d)
		}
	}
}

// TestOwned: what the engine put there, others can neither change nor flush, until
// it is gone; the next engine takes it over.
func TestOwned(t *testing.T) {
	c := dial(t)
	tables := Tables("lade", "engine /run/lade", example())
	if err := c.Replace(tables...); err != nil {
		t.Fatal(err)
	}
	if !c.Owns() {
		kerneltest.Feature(t, "tables that outlive their owner", 6, 9, errors.ErrUnsupported)
	}
	run := func(args string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "nft", strings.Fields(args)...).CombinedOutput()
		return string(out), err
	}
	same := func(c *nft.Conn) bool {
		for _, table := range tables {
			if d, err := c.Diff(table); err != nil || len(d) > 0 {
				t.Log(d, err)
				return false
			}
		}
		return true
	}
	for _, args := range []string{
		"delete table inet lade", "flush table inet lade", "flush chain inet lade forward", "add rule inet lade raw accept", "add element inet lade bridges { eth0 }",
		"delete table bridge lade", "delete chain bridge lade prerouting",
	} {
		if _, err := run(args); err == nil || !same(c) {
			t.Errorf("nft %s: it is not as it was, or it was let: %v", args, err)
		}
	}
	// What flushes all goes on with what is its own.
	for _, args := range []string{"flush ruleset", "add table inet other", "flush ruleset"} {
		if out, err := run(args); err != nil || !same(c) {
			t.Errorf("nft %s: %v %s", args, err, out)
		}
	}
	if out, err := run("list table inet other"); err == nil {
		t.Errorf("somebody else's table is still there: %s", out)
	}
	// Who has not put it there cannot change it, either.
	next := dial(t)
	if err := next.Replace(tables...); !errors.Is(err, syscall.EPERM) {
		t.Errorf("another replaces it: %v, want EPERM", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	kerneltest.Eventually(t, "the next engine takes it over", func() bool { return next.Replace(tables...) == nil })
	if _, _ = run("flush ruleset"); !same(next) {
		t.Error("the next engine's was flushed")
	}
	if err := next.Delete(tables...); err != nil {
		t.Error(err)
	}
}

// BenchmarkPort adds a port to as many as there are, and removes it.
func BenchmarkPort(b *testing.B) {
	for _, n := range []int{0, 1000, 10000} {
		b.Run("beside "+itoa(n), func(b *testing.B) {
			c := dial(b)
			w := example()
			for i := range n {
				w.Ports = append(w.Ports, Port{6, netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(10000+i)), netip.MustParseAddrPort("10.76.0.2:80")})
			}
			install(b, c, Tables("lade", "engine /run/lade", w))
			one := Elements("lade", Wanted{Ports: []Port{{6, netip.MustParseAddrPort("0.0.0.0:9"), netip.MustParseAddrPort("10.76.0.2:80")}}})
			for b.Loop() {
				if err := c.Edit(one, nil); err != nil {
					b.Fatal(err)
				}
				if err := c.Edit(nil, one); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func itoa(n int) string { return map[int]string{0: "none", 1000: "1,000", 10000: "10,000"}[n] }
