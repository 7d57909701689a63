// Package cgroup plans and tends the cgroups of a container, on cgroup v1, on
// v2 and on machines that mix both.
//
// [Detect] reads which hierarchies are mounted: a [Layout]. [Layout.Plan] is
// pure: from a layout, the cgroupsPath and the resources of a configuration it
// derives a [Plan], a list of [Step] values (make this directory, write this
// value to that file) each with its reason, which can be shown as well as
// done. What remains while the container lives is its [Group]: the directory
// in each hierarchy, a plain value to be kept with the container's state.
// Processes join it, are listed, frozen, killed and counted through it, and at
// the end Remove takes it away.
//
// All hierarchies take part in which limits can be set, and, where a hybrid
// machine has it, the v2 one even without controllers: it alone kills all
// processes in one write, tells when the last is gone, and freezes in a way
// that does not hold off a kill. A named v1 hierarchy takes part when whoever
// starts the container uses it.
//
// Cgroups are made in cgroupfs directly, or, planned by [Layout.PlanUnit], by
// systemd, which is told of the limits that it has a property for.
package cgroup
