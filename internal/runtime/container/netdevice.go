package container

import (
	"os"
	"strings"

	"lade/internal/errdefs"
	"lade/internal/linux/netns"
	"lade/internal/linux/rtnl"
)

// moveDevice moves a network device of the runtime's network namespace into
// the one at path, or, where path is "", that of a process. Its lasting
// addresses go with it, and it is up there.
func moveDevice(name, to, path string, pid int) error {
	open := func() (*os.File, error) { return netns.Open(pid) }
	if path != "" {
		open = func() (*os.File, error) { return os.Open(path) }
	}
	ns, err := open()
	if err != nil {
		return err
	}
	defer ns.Close()
	here, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer here.Close()
	link, err := here.LinkByName(name)
	if err != nil {
		return err
	}
	addrs, err := here.Addrs(link.Index)
	if err != nil {
		return err
	}
	var there *rtnl.Conn
	if err := netns.Do(ns, func() (err error) { there, err = rtnl.Dial(); return err }); err != nil {
		return err
	}
	defer there.Close()
	// The kernel would move it first and then find its name taken; a device
	// that is not a real one would end there.
	if _, err := there.LinkByName(to); err == nil {
		return errdefs.New(errdefs.Conflict, "the container has a device %s already", to)
	}
	if err := here.Do(rtnl.SetDown(link.Index), rtnl.Move(link.Index, to, ns)); err != nil {
		return err
	}
	return arrive(there, link, to, addrs)
}

// arrive sets up a device that has been moved. Where its name was a pattern,
// it is known by its hardware address only.
func arrive(there *rtnl.Conn, link rtnl.Link, to string, addrs []rtnl.Addr) error {
	links, err := there.Links()
	if err != nil {
		return err
	}
	index := 0
	for _, l := range links {
		if l.Name == to || strings.Contains(to, "%") && l.MAC.String() == link.MAC.String() {
			index = l.Index
		}
	}
	var changes []rtnl.Change
	for _, a := range addrs {
		if a.Permanent && a.Global {
			changes = append(changes, rtnl.PutAddr(index, a))
		}
	}
	return there.Do(append(changes, rtnl.SetUp(index))...)
}
