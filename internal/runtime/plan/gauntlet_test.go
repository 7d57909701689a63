package plan_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/runtime/plan"
	"lade/internal/runtime/program"
)

// TestGauntlet has the rows that no machine should run: each configuration is
// refused, and without the check its program does what the row is afraid of.
// The legal neighbour is planned, and does exactly what it says.
func TestGauntlet(t *testing.T) {
	for _, r := range []struct {
		name          string
		attack, legal func(*specs.Spec)
		harm, works   string // a step's text
	}{
		{
			"03 CVE-2019-16884 CVE-2019-19921 a mount over proc",
			mountAt("/proc", "tmpfs"), mountAt("/procedure", "tmpfs"),
			`openat2(root, "proc", {O_PATH|O_CLOEXEC, RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS}`, `openat2(root, "procedure", `,
		},
		{
			"16 CVE-2022-0811 a sysctl of the host",
			sysctl("kernel.core_pattern"), sysctl("kernel.shm_rmid_forced"),
			`"sys/kernel/core_pattern"`, `"sys/kernel/shm_rmid_forced"`,
		},
		{
			"16 CVE-2022-0811 a sysctl by way of another",
			sysctl("net/../kernel/core_pattern"), sysctl("net/ipv4/conf/eth0.100/forwarding"),
			`"sys/net/../kernel/core_pattern"`, `"sys/net/ipv4/conf/eth0.100/forwarding"`,
		},
		{
			"16 CVE-2022-0811 a sysctl without a namespace",
			func(c *specs.Spec) {
				sysctl("net.ipv4.ip_forward")(c)
				c.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.UTSNamespace}}
			}, sysctl("net.ipv4.ip_forward"),
			`"sys/net/ipv4/ip_forward"`, `"sys/net/ipv4/ip_forward"`,
		},
		{
			"19 CVE-2024-40635 a user that is none",
			func(c *specs.Spec) { c.Process.User.UID = 1<<32 - 1 }, func(c *specs.Spec) { c.Process.User.UID = 1<<32 - 2 },
			"setresuid(0xffffffff, 0xffffffff, 0xffffffff)", "setresuid(0xfffffffe, 0xfffffffe, 0xfffffffe)",
		},
	} {
		t.Run(r.name, func(t *testing.T) {
			text := func(change func(*specs.Spec), unchecked bool) string {
				c := config(t, change)
				in := input(c)
				in.Unchecked = unchecked
				p, err := plan.Start(in, facts(t, c, hybrid()))
				if err != nil {
					return ""
				}
				return p.Text()
			}
			if text(r.attack, false) != "" {
				t.Error("it is planned")
			}
			if !strings.Contains(text(r.attack, true), r.harm) {
				t.Error("without the check nothing happens, either: the row proves nothing")
			}
			if !strings.Contains(text(r.legal, false), r.works) {
				t.Error("what is allowed is not planned")
			}
		})
	}
}

// TestOneSysctl: CVE-2022-0811. Whatever a value holds, one file is written.
func TestOneSysctl(t *testing.T) {
	for _, value := range []string{"1+kernel.core_pattern=|/bin/x", "1\nkernel.core_pattern = x", "1;2", "../kernel/core_pattern"} {
		c := config(t, func(c *specs.Spec) { c.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": value} })
		p, err := plan.Start(input(c), facts(t, c, hybrid()))
		if err != nil {
			t.Fatal(err)
		}
		var written, opened []string
		program.Walk(p.Child, func(s *program.Step) {
			switch {
			case s.Yield == "sysctl":
				opened = append(opened, s.Args[1].S)
			case s.Call == "write" && s.Args[0].S == "sysctl":
				written = append(written, s.Args[1].S)
			}
		})
		if len(opened) != 1 || opened[0] != "sys/net/ipv4/ip_forward" || len(written) != 1 || written[0] != value {
			t.Errorf("%q: opens %q, writes %q", value, opened, written)
		}
	}
}
