// Package kerneltest lets tests meet the real kernel and leave it as it was.
//
// A test binary that mounts, makes cgroups or starts containers has
//
//	func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{}) }
//
// As root, Main runs the tests in a child with a mount namespace of its own,
// from which no mount reaches the host, below a process that adopts and reaps
// every orphan at once. When the tests are through, it looks for what they
// left behind: descriptors, mounts, cgroups, processes and zombies, network
// links, files. A leak fails the binary. Namespaces need no look of their own:
// one lives only by a process, a mount or a descriptor. Without root the tests
// run in place; those that call Root skip.
//
// Names of containers and cgroups come from ID, so that the search knows this
// binary's own from those of others that run at the same time.
package kerneltest
