// Package cdi gives containers devices by the Container Device Interface: a
// vendor describes in a file what a device needs (nodes, mounts, variables,
// hooks), and who starts a container names it: vendor.com/class=name.
//
// Registry reads the files of its directories, in JSON or YAML, each time anew:
// there are few, and what was plugged in since is found. A device in a later
// directory hides one of the same name in an earlier; of two in one directory
// neither counts, since nobody can know which was meant. A file that is wrong
// hides no other.
//
// Devices come by name from the request alone. Neither labels and annotations of
// an image nor annotations of a container, which other engines have read names
// from, are looked at.
//
// The rules are those of version 1.1.0 of the specification
// (github.com/cncf-tags/container-device-interface, SPEC.md); the files' owner is
// root, and so trusted with hooks that run as root.
package cdi
