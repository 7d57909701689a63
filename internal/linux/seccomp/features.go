package seccomp

import "github.com/opencontainers/runtime-spec/specs-go"

// Actions returns the actions that Compile knows.
func Actions() []specs.LinuxSeccompAction {
	return []specs.LinuxSeccompAction{
		specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActKillThread,
		specs.ActLog, specs.ActNotify, specs.ActTrace, specs.ActTrap,
	}
}

// Operators returns the operators that Compile knows.
func Operators() []specs.LinuxSeccompOperator {
	return []specs.LinuxSeccompOperator{
		specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpLessEqual, specs.OpLessThan,
		specs.OpMaskedEqual, specs.OpNotEqual,
	}
}

// Architectures returns the architectures that Compile makes filters for.
// Others are known by name and passed over, as their programs cannot run.
func Architectures() []specs.Arch {
	return []specs.Arch{
		specs.ArchAARCH64, specs.ArchARM, specs.ArchRISCV64, specs.ArchX32, specs.ArchX86, specs.ArchX86_64,
	}
}

// Flags returns the flags that Compile knows.
func Flags() []specs.LinuxSeccompFlag {
	return []specs.LinuxSeccompFlag{
		flagTsync, specs.LinuxSeccompFlagSpecAllow, specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagWaitKillableRecv,
	}
}
