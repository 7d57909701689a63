package bundle

import (
	"encoding/json"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// decode reads a configuration: what encoding/json makes of it, in a tenth of
// the time where the configuration is one of the usual kind.
func decode(data []byte, c *specs.Spec) error {
	s := &scanner{b: data}
	s.spec(c)
	if s.err == nil && s.next() == 0 && s.i == len(data) {
		return nil
	}
	*c = specs.Spec{}
	return json.Unmarshal(data, c)
}

// decodeProcess reads a process.
func decodeProcess(data []byte, p *specs.Process) error {
	s := &scanner{b: data}
	s.process(p)
	if s.err == nil && s.next() == 0 && s.i == len(data) {
		return nil
	}
	*p = specs.Process{}
	return json.Unmarshal(data, p)
}

func (s *scanner) spec(c *specs.Spec) {
	s.object(func(key string) {
		switch key {
		case "ociVersion":
			s.str(&c.Version)
		case "process":
			optional(s, &c.Process, s.process)
		case "root":
			optional(s, &c.Root, s.root)
		case "hostname":
			s.str(&c.Hostname)
		case "domainname":
			s.str(&c.Domainname)
		case "mounts":
			each(s, &c.Mounts, s.mount)
		case "hooks":
			s.other(&c.Hooks)
		case "annotations":
			s.stringMap(&c.Annotations)
		case "linux":
			optional(s, &c.Linux, s.linux)
		default:
			s.fail() // of another system, or one that encoding/json spells otherwise
		}
	})
}

func (s *scanner) stringMap(to *map[string]string) {
	if s.literal("null") {
		return
	}
	m := map[string]string{}
	s.object(func(key string) {
		var v string
		s.str(&v)
		m[key] = v
	})
	*to = m
}

func (s *scanner) root(r *specs.Root) {
	s.object(func(key string) {
		switch key {
		case "path":
			s.str(&r.Path)
		case "readonly":
			s.boolean(&r.Readonly)
		default:
			s.fail()
		}
	})
}

func (s *scanner) process(p *specs.Process) {
	s.object(func(key string) {
		switch key {
		case "terminal":
			s.boolean(&p.Terminal)
		case "consoleSize":
			s.other(&p.ConsoleSize)
		case "user":
			s.user(&p.User)
		case "args":
			s.strings(&p.Args)
		case "env":
			s.strings(&p.Env)
		case "cwd":
			s.str(&p.Cwd)
		case "capabilities":
			optional(s, &p.Capabilities, s.capabilities)
		case "rlimits":
			each(s, &p.Rlimits, s.rlimit)
		case "noNewPrivileges":
			s.boolean(&p.NoNewPrivileges)
		case "apparmorProfile":
			s.str(&p.ApparmorProfile)
		case "oomScoreAdj":
			optional(s, &p.OOMScoreAdj, s.integerI)
		case "selinuxLabel":
			s.str(&p.SelinuxLabel)
		default:
			s.fail()
		}
	})
}

func (s *scanner) user(u *specs.User) {
	s.object(func(key string) {
		switch key {
		case "uid":
			s.u32(&u.UID)
		case "gid":
			s.u32(&u.GID)
		case "umask":
			optional(s, &u.Umask, s.u32)
		case "additionalGids":
			each(s, &u.AdditionalGids, s.u32)
		default:
			s.fail()
		}
	})
}

func (s *scanner) capabilities(c *specs.LinuxCapabilities) {
	s.object(func(key string) {
		switch key {
		case "bounding":
			s.strings(&c.Bounding)
		case "effective":
			s.strings(&c.Effective)
		case "inheritable":
			s.strings(&c.Inheritable)
		case "permitted":
			s.strings(&c.Permitted)
		case "ambient":
			s.strings(&c.Ambient)
		default:
			s.fail()
		}
	})
}

func (s *scanner) rlimit(r *specs.POSIXRlimit) {
	s.object(func(key string) {
		switch key {
		case "type":
			s.str(&r.Type)
		case "hard":
			s.u64(&r.Hard)
		case "soft":
			s.u64(&r.Soft)
		default:
			s.fail()
		}
	})
}

func (s *scanner) mount(m *specs.Mount) {
	s.object(func(key string) {
		switch key {
		case "destination":
			s.str(&m.Destination)
		case "type":
			s.str(&m.Type)
		case "source":
			s.str(&m.Source)
		case "options":
			s.strings(&m.Options)
		case "uidMappings":
			each(s, &m.UIDMappings, s.mapping)
		case "gidMappings":
			each(s, &m.GIDMappings, s.mapping)
		default:
			s.fail()
		}
	})
}

func (s *scanner) mapping(m *specs.LinuxIDMapping) {
	s.object(func(key string) {
		switch key {
		case "containerID":
			s.u32(&m.ContainerID)
		case "hostID":
			s.u32(&m.HostID)
		case "size":
			s.u32(&m.Size)
		default:
			s.fail()
		}
	})
}

func (s *scanner) linux(l *specs.Linux) {
	s.object(func(key string) {
		switch key {
		case "uidMappings":
			each(s, &l.UIDMappings, s.mapping)
		case "gidMappings":
			each(s, &l.GIDMappings, s.mapping)
		case "sysctl":
			s.stringMap(&l.Sysctl)
		case "resources":
			optional(s, &l.Resources, s.resources)
		case "cgroupsPath":
			s.str(&l.CgroupsPath)
		case "namespaces":
			each(s, &l.Namespaces, s.namespace)
		case "devices":
			each(s, &l.Devices, s.device)
		case "seccomp":
			optional(s, &l.Seccomp, s.seccomp)
		case "rootfsPropagation":
			s.str(&l.RootfsPropagation)
		case "maskedPaths":
			s.strings(&l.MaskedPaths)
		case "readonlyPaths":
			s.strings(&l.ReadonlyPaths)
		case "mountLabel":
			s.str(&l.MountLabel)
		default:
			s.fail()
		}
	})
}

func (s *scanner) namespace(n *specs.LinuxNamespace) {
	s.object(func(key string) {
		switch key {
		case "type":
			s.str((*string)(&n.Type))
		case "path":
			s.str(&n.Path)
		default:
			s.fail()
		}
	})
}

func (s *scanner) device(d *specs.LinuxDevice) {
	s.object(func(key string) {
		switch key {
		case "path":
			s.str(&d.Path)
		case "type":
			s.str(&d.Type)
		case "major":
			s.i64(&d.Major)
		case "minor":
			s.i64(&d.Minor)
		case "fileMode":
			optional(s, &d.FileMode, func(m *os.FileMode) { s.u32((*uint32)(m)) })
		case "uid":
			optional(s, &d.UID, s.u32)
		case "gid":
			optional(s, &d.GID, s.u32)
		default:
			s.fail()
		}
	})
}

func (s *scanner) resources(r *specs.LinuxResources) {
	s.object(func(key string) {
		switch key {
		case "devices":
			each(s, &r.Devices, s.deviceRule)
		case "memory":
			s.other(&r.Memory)
		case "cpu":
			s.other(&r.CPU)
		case "pids":
			s.other(&r.Pids)
		case "blockIO":
			s.other(&r.BlockIO)
		case "hugepageLimits":
			s.other(&r.HugepageLimits)
		case "network":
			s.other(&r.Network)
		case "rdma":
			s.other(&r.Rdma)
		case "unified":
			s.stringMap(&r.Unified)
		default:
			s.fail()
		}
	})
}

func (s *scanner) deviceRule(d *specs.LinuxDeviceCgroup) {
	s.object(func(key string) {
		switch key {
		case "allow":
			s.boolean(&d.Allow)
		case "type":
			s.str(&d.Type)
		case "major":
			optional(s, &d.Major, s.i64)
		case "minor":
			optional(s, &d.Minor, s.i64)
		case "access":
			s.str(&d.Access)
		default:
			s.fail()
		}
	})
}

func (s *scanner) seccomp(p *specs.LinuxSeccomp) {
	s.object(func(key string) {
		switch key {
		case "defaultAction":
			s.str((*string)(&p.DefaultAction))
		case "defaultErrnoRet":
			s.other(&p.DefaultErrnoRet)
		case "architectures":
			each(s, &p.Architectures, func(a *specs.Arch) { s.str((*string)(a)) })
		case "flags":
			each(s, &p.Flags, func(f *specs.LinuxSeccompFlag) { s.str((*string)(f)) })
		case "listenerPath":
			s.str(&p.ListenerPath)
		case "listenerMetadata":
			s.str(&p.ListenerMetadata)
		case "syscalls":
			each(s, &p.Syscalls, s.syscalls)
		default:
			s.fail()
		}
	})
}

func (s *scanner) syscalls(c *specs.LinuxSyscall) {
	s.object(func(key string) {
		switch key {
		case "names":
			s.strings(&c.Names)
		case "action":
			s.str((*string)(&c.Action))
		case "errnoRet":
			s.other(&c.ErrnoRet)
		case "args":
			each(s, &c.Args, s.condition)
		default:
			s.fail()
		}
	})
}

func (s *scanner) condition(a *specs.LinuxSeccompArg) {
	s.object(func(key string) {
		switch key {
		case "index":
			unsigned(s, 1<<32-1, &a.Index)
		case "value":
			s.u64(&a.Value)
		case "valueTwo":
			s.u64(&a.ValueTwo)
		case "op":
			s.str((*string)(&a.Op))
		default:
			s.fail()
		}
	})
}
