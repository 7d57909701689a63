// Package plan compiles a start: from a bundle's configuration and the facts
// of the host it derives the start program.
//
// It is pure. Everything that it must know about the machine comes in [Facts],
// so the same input gives the same program on every machine, and golden tests
// need no root. A configuration that cannot work is refused here, by the name
// of its field, before anything exists.
//
// The order of a start, and why it is so, stands in [Start].
package plan
