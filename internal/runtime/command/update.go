package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/runtime/container"
)

// update changes the resources of a container: to those of a JSON document,
// or, without one, to those that the other flags name.
func (a *app) update(ctx context.Context, args []string) error {
	var file, cat, bandwidth string
	r := emptyResources()
	flags := append(resourceFlags(r), text("resources r", &file), text("l3-cache-schema", &cat), text("mem-bw-schema", &bandwidth))
	rest, err := flags.parse(args, true)
	if err != nil {
		return err
	}
	id, err := one(rest)
	if err != nil {
		return err
	}
	if cat != "" || bandwidth != "" {
		return errdefs.New(errdefs.NotImplemented, "update: the schemata of Intel RDT cannot be changed")
	}
	if file != "" {
		if r, err = a.readResources(file); err != nil {
			return err
		}
	}
	if m := r.Memory; m.Kernel != nil || m.KernelTCP != nil { //nolint:staticcheck // to say that they are ignored
		a.warn("Kernel memory settings are ignored and will be removed")
	}
	return container.Update(ctx, a.store(), id, r)
}

// emptyResources has every section, and nothing in it.
func emptyResources() *specs.LinuxResources {
	return &specs.LinuxResources{
		Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}, BlockIO: &specs.LinuxBlockIO{}, Pids: &specs.LinuxPids{},
	}
}

func (a *app) readResources(file string) (*specs.LinuxResources, error) {
	in := io.Reader(a.stdin)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read the resources: %w", err)
		}
		defer f.Close()
		in = f
	}
	r := emptyResources()
	if err := json.NewDecoder(io.LimitReader(in, 1<<20)).Decode(r); err != nil {
		return nil, errdefs.New(errdefs.Invalid, "read the resources: %w", err)
	}
	// A section may have been taken away by null.
	r.Memory, r.CPU, r.BlockIO, r.Pids = orNew(r.Memory), orNew(r.CPU), orNew(r.BlockIO), orNew(r.Pids)
	return r, nil
}

func orNew[T any](p *T) *T {
	if p == nil {
		p = new(T)
	}
	return p
}

// resourceFlags are the flags for single values. An empty value is none: some
// callers pass every flag.
func resourceFlags(r *specs.LinuxResources) flagSet {
	m, c := r.Memory, r.CPU
	return flagSet{
		value("blkio-weight", parseWeight, &r.BlockIO.Weight),
		value("cpu-period", parseUnsigned, &c.Period), value("cpu-quota", parseSigned, &c.Quota), value("cpu-burst", parseUnsigned, &c.Burst),
		value("cpu-share", parseUnsigned, &c.Shares), value("cpu-rt-period", parseUnsigned, &c.RealtimePeriod),
		value("cpu-rt-runtime", parseSigned, &c.RealtimeRuntime), value("cpu-idle", parseSigned, &c.Idle),
		text("cpuset-cpus", &c.Cpus), text("cpuset-mems", &c.Mems),
		value("memory", parseSize, &m.Limit), value("memory-swap", parseSize, &m.Swap), value("memory-reservation", parseSize, &m.Reservation),
		value("kernel-memory", parseSize, &m.Kernel), value("kernel-memory-tcp", parseSize, &m.KernelTCP), //nolint:staticcheck // accepted and ignored, as by runc
		value("pids-limit", parseSigned, &r.Pids.Limit),
	}
}

// value is a flag that sets a value which may also be unset.
func value[T any](name string, parse func(string) (T, error), to **T) flag {
	return flag{names: name, set: func(s string) error {
		if s == "" {
			return nil
		}
		v, err := parse(s)
		if err == nil {
			*to = &v
		}
		return err
	}}
}

func parseUnsigned(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }
func parseSigned(s string) (int64, error)    { return strconv.ParseInt(s, 10, 64) }

func parseWeight(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}

// parseSize reads an amount of memory: -1, or a number with a unit of 1,024
// such as k, MB or GiB, whose digits may have a fraction.
func parseSize(s string) (int64, error) {
	if s == "-1" {
		return -1, nil
	}
	lower := strings.ToLower(strings.TrimSpace(s))
	digits := strings.TrimRight(lower, "bikmgtp ")
	power := slices.IndexFunc([]string{"|b", "k|kb|kib", "m|mb|mib", "g|gb|gib", "t|tb|tib", "p|pb|pib"}, func(units string) bool {
		return slices.Contains(strings.Split(units, "|"), strings.TrimSpace(lower[len(digits):]))
	})
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || power < 0 || strings.Trim(digits, "0123456789.") != "" {
		return 0, strconv.ErrSyntax
	}
	if n *= float64(uint64(1) << (10 * power)); n >= 1<<63 {
		return 0, strconv.ErrRange
	}
	return int64(n), nil
}
