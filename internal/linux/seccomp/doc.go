// Package seccomp compiles the seccomp part of a container's configuration
// into the program that the kernel runs before each system call.
//
// [Compile] is pure: the same configuration gives the same [Filter], on any
// machine. Loading it is left to the start program of a container, which has
// only raw system calls at hand.
//
// The meaning of a configuration is that of runc with libseccomp:
//
//   - A rule without conditions decides for its system call, wherever it
//     stands; of several, the first. Without one, the first rule whose
//     conditions all hold decides, and the default action where none does.
//   - Conditions of one rule on different arguments must all hold. Where two
//     are on the same argument, any one of them suffices.
//   - Names that no architecture knows are passed over: profiles name system
//     calls of all kernels and machines. So are rules whose action is the
//     default one.
//   - A number above every system call that the profile names is one that its
//     author did not know. It fails with ENOSYS, not with the default action,
//     so that programs fall back to what there was before, as they do on an
//     older kernel. (With EPERM, C libraries that try clone3 first could not
//     start a thread.) Default actions that let calls pass are kept to.
//   - Where x86 passes the calls of a family through one number, socketcall
//     and ipc, rules without conditions hold there too.
//
// A filter is a binary search over the numbers, in which runs of calls with
// the same outcome are one range. It costs a system call about nine
// comparisons, and the kernel, which tries each number once when a filter is
// loaded, as many.
package seccomp

//go:generate go run gen.go
