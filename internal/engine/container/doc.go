// Package container is the engine's noun "container": it creates, starts,
// watches and removes containers, and keeps their records.
//
// A container's life: Create checks the request and records a definition;
// Start writes an OCI bundle and has a shim drive the runtime and keep the
// streams (package launch); when the shim leaves, its exit
// record is read and the container is exited, or gone if it was to be removed.
// docs/container-lifecycle.md follows one container through all of it and says
// what a kill -9 at each point leaves and who cleans it.
//
// The package owns no process. What runs belongs to its shim; at start the
// service adopts what it finds.
package container
