package command_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"

	"lade/internal/runtime/plan/mountopt"
)

// TestFeaturesKnowTheirOptions: every option of mounts that features lists is
// one that is known; what is not goes to the file system as it stands.
func TestFeaturesKnowTheirOptions(t *testing.T) {
	var listed struct {
		MountOptions []string `json:"mountOptions"`
	}
	m := newMachine(t, nil)
	if err := json.Unmarshal([]byte(m.must("features")), &listed); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(listed.MountOptions, "ro") {
		t.Errorf("options %q", listed.MountOptions)
	}
	ofFileSystems := []string{"dirsync", "iversion", "lazytime", "mand", "silent", "sync"}
	for _, word := range listed.MountOptions {
		o, err := mountopt.Parse(0, &specs.Mount{Destination: "/x", Type: "tmpfs", Source: "tmpfs", Options: []string{word}})
		if err != nil && word != "idmap" && word != "ridmap" { // these are for binds
			t.Errorf("%s: %v", word, err)
		}
		if len(o.Data) > 0 && !slices.Contains(ofFileSystems, word) {
			t.Errorf("%s goes to the file system: %q", word, o.Data)
		}
	}
}

// TestFeaturesAreTrue: what features lists is planned, name by name, and what
// it does not list is refused.
func TestFeaturesAreTrue(t *testing.T) {
	var f features.Features
	m := newMachine(t, nil)
	if err := json.Unmarshal([]byte(m.must("features")), &f); err != nil {
		t.Fatal(err)
	}
	m.args("true")
	var base []byte
	m.configure(func(c *specs.Spec) { base, _ = json.Marshal(c) })
	planned := func(change func(*specs.Spec)) error {
		m.configure(func(c *specs.Spec) {
			*c = specs.Spec{}
			if err := json.Unmarshal(base, c); err != nil {
				t.Fatal(err)
			}
			change(c)
		})
		_, err := m.run("create", "--bundle", m.bundle, "--explain", "features")
		return err
	}
	namespace := func(kind string) func(*specs.Spec) {
		return func(c *specs.Spec) {
			c.Linux.Namespaces = append(slices.DeleteFunc(c.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return string(n.Type) == kind }), specs.LinuxNamespace{Type: specs.LinuxNamespaceType(kind)})
			if kind == "user" {
				c.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 200000, Size: 65536}}
				c.Linux.GIDMappings = c.Linux.UIDMappings
			}
		}
	}
	rule := func(action, op, arch, flag string) func(*specs.Spec) {
		return func(c *specs.Spec) {
			c.Linux.Seccomp = &specs.LinuxSeccomp{
				DefaultAction: specs.ActAllow, ListenerPath: "/run/agent", Architectures: []specs.Arch{specs.Arch(arch)}, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlag(flag)},
				Syscalls: []specs.LinuxSyscall{{Names: []string{"chmod"}, Action: specs.LinuxSeccompAction(action), Args: []specs.LinuxSeccompArg{{Op: specs.LinuxSeccompOperator(op)}}}},
			}
		}
	}
	const action, op, arch, flag = "SCMP_ACT_ERRNO", "SCMP_CMP_EQ", "SCMP_ARCH_X86_64", "SECCOMP_FILTER_FLAG_LOG"
	for _, list := range []struct {
		what   string
		names  []string
		change func(name string) func(*specs.Spec)
	}{
		{"namespaces", f.Linux.Namespaces, namespace},
		{"seccomp actions", f.Linux.Seccomp.Actions, func(n string) func(*specs.Spec) { return rule(n, op, arch, flag) }},
		{"seccomp operators", f.Linux.Seccomp.Operators, func(n string) func(*specs.Spec) { return rule(action, n, arch, flag) }},
		{"seccomp architectures", f.Linux.Seccomp.Archs, func(n string) func(*specs.Spec) { return rule(action, op, n, flag) }},
		{"seccomp flags", f.Linux.Seccomp.KnownFlags, func(n string) func(*specs.Spec) { return rule(action, op, arch, n) }},
		{"memory modes", f.Linux.MemoryPolicy.Modes, func(n string) func(*specs.Spec) {
			return func(c *specs.Spec) {
				c.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MemoryPolicyModeType(n), Nodes: "0"}
				if n == "MPOL_DEFAULT" || n == "MPOL_LOCAL" {
					c.Linux.MemoryPolicy.Nodes = ""
				}
			}
		}},
		{"memory flags", f.Linux.MemoryPolicy.Flags, func(n string) func(*specs.Spec) {
			return func(c *specs.Spec) {
				c.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MemoryPolicyFlagType(n)}}
			}
		}},
	} {
		if len(list.names) == 0 {
			t.Errorf("%s: none", list.what)
		}
		for _, name := range list.names {
			if err := planned(list.change(name)); err != nil {
				t.Errorf("%s: %s is listed and refused", list.what, name)
			}
		}
		if err := planned(list.change("X_NO_SUCH")); err == nil {
			t.Errorf("%s: anything goes", list.what)
		}
	}
	for what, enabled := range map[string]*bool{"network devices": f.Linux.NetDevices.Enabled, "id maps": f.Linux.MountExtensions.IDMap.Enabled} {
		if enabled == nil || !*enabled {
			t.Errorf("%s are not listed", what)
		}
	}
}
