// Package sdbus asks systemd for units over D-Bus: the few calls that a
// container runtime makes, and no more of the protocol than they need.
//
// [Dial] connects to the manager of the system, or of a user. [Conn.Start]
// makes a transient unit and waits until its job is done; [Conn.Stop] ends
// one; [Conn.Set] changes the properties of one that runs. A [Property] holds
// a plain Go value, whose type is its type on the bus.
//
// Messages are written in little-endian order, and read in either. The bus is
// trusted as systemd is, but what it sends is checked for its bounds before it
// is used: the parser never reads beyond a message.
package sdbus
