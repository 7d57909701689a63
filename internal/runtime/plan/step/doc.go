// Package step makes the steps that programs consist of: one function for each
// system call, with its structures spelled out and the names of its flags.
//
// It decides nothing: what a step is for, and what it may fail with, says who
// asks for it, by [Why], [Say] and [Tolerate].
package step
