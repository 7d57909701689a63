// Package container is the life of a container, as the runtime's commands
// bring it about: create, start, run, exec, signal, delete.
//
//	create   plan the start, record what is about to be made, carry it out;
//	         the process waits at a socket in the state directory
//	start    connect to that socket; the process executes its program
//	delete   end what is left, remove cgroups and record
//
// The container's first process is a child of whoever creates it and becomes
// an orphan when that ends, so that a subreaper above (a shim, conmon) reaps
// it. Nothing here keeps running; the kernel's objects and state.json are all
// there is.
package container
