package sdbus

import (
	"errors"
	"fmt"
	"strings"
)

// Start makes a transient unit and waits until it is there. A unit of that
// name that has failed is made way of.
func (c *Conn) Start(unit string, properties []Property) error {
	if err := c.listen(); err != nil {
		return fmt.Errorf("start unit %s: %w", unit, err)
	}
	m, err := c.start(unit, properties)
	if e, ok := errors.AsType[*Error](err); ok && e.Name == unitExists {
		if c.Reset(unit) == nil {
			m, err = c.start(unit, properties)
		}
	}
	if err != nil {
		return fmt.Errorf("start unit %s: %w", unit, err)
	}
	result, err := c.wait(m.body.str())
	if err == nil && result != "done" {
		err = fmt.Errorf("systemd says %q", result)
	}
	if err != nil {
		_ = c.Reset(unit)
		return fmt.Errorf("start unit %s: %w", unit, err)
	}
	return nil
}

func (c *Conn) start(unit string, properties []Property) (*message, error) {
	return c.manage("StartTransientUnit", "ssa(sv)a(sa(sv))", func(e *encoder) error {
		e.str(unit)
		e.str("replace")
		err := e.properties(properties)
		e.array(8, func() {})
		return err
	})
}

// Stop ends a unit, and waits until it has ended. One that is not there has.
func (c *Conn) Stop(unit string) error {
	if err := c.listen(); err != nil {
		return fmt.Errorf("stop unit %s: %w", unit, err)
	}
	m, err := c.manage("StopUnit", "ss", func(e *encoder) error {
		e.str(unit)
		e.str("replace")
		return nil
	})
	if err == nil {
		_, err = c.wait(m.body.str())
	}
	// A unit that has failed stays until somebody says that he knows.
	_ = c.Reset(unit)
	if e, ok := errors.AsType[*Error](err); ok && strings.HasSuffix(e.Name, ".NoSuchUnit") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop unit %s: %w", unit, err)
	}
	return nil
}

// Reset takes away that a unit has failed.
func (c *Conn) Reset(unit string) error {
	_, err := c.manage("ResetFailedUnit", "s", func(e *encoder) error {
		e.str(unit)
		return nil
	})
	return err
}

// Set changes properties of a unit until the machine stops.
func (c *Conn) Set(unit string, properties []Property) error {
	_, err := c.manage("SetUnitProperties", "sba(sv)", func(e *encoder) error {
		e.str(unit)
		e.u32(1)
		return e.properties(properties)
	})
	if err != nil {
		return fmt.Errorf("set properties of unit %s: %w", unit, err)
	}
	return nil
}

// Property returns a property of the manager that is a text.
func (c *Conn) Property(name string) (string, error) {
	e := &encoder{}
	e.str(managerAPI)
	e.str(name)
	m, err := c.call(&call{to: manager, path: managerPath, iface: "org.freedesktop.DBus.Properties", member: "Get", signature: "ss", body: e.b})
	if err != nil {
		return "", fmt.Errorf("ask systemd for its %s: %w", name, err)
	}
	if m.signature != "v" || m.body.signature() != "s" {
		return "", fmt.Errorf("ask systemd for its %s: %w", name, errMessage)
	}
	return m.body.str(), nil
}
