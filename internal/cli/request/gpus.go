package request

import (
	"encoding/csv"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// gpus parses --gpus: all, a number, or fields as CSV: count=2, device=0,
// capabilities=utility, driver=cdi, options=key=value.
func gpus(s string) (container.DeviceRequest, error) {
	r := container.DeviceRequest{}
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return r, invalid("%w", err)
	}
	seen := map[string]bool{}
	for _, field := range fields {
		key, val, given := strings.Cut(field, "=")
		if !given {
			key, val = "count", key
		}
		if seen[key] {
			return r, invalid("gpu request key '%s' can be specified only once", key)
		}
		seen[key] = true
		switch key {
		case "driver":
			r.Driver = val
		case "count":
			if r.Count, err = gpuCount(val); err != nil {
				return r, err
			}
		case "device":
			r.DeviceIDs = strings.Split(val, ",")
		case "capabilities":
			r.Capabilities = [][]string{append(strings.Split(val, ","), "gpu")}
		case "options":
			r.Options = map[string]string{}
			for o := range strings.SplitSeq(val, ",") {
				k, v, _ := strings.Cut(o, "=")
				r.Options[k] = v
			}
		default:
			return r, invalid("unexpected key '%s' in '%s'", key, field)
		}
	}
	if !seen["count"] && r.DeviceIDs == nil {
		r.Count = 1
	}
	if r.Capabilities == nil {
		r.Capabilities = [][]string{{"gpu"}}
	}
	return r, nil
}

func gpuCount(s string) (int, error) {
	if s == "all" {
		return -1, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, invalid("invalid count (%s): value must be either \"all\" or an integer", s)
	}
	return n, nil
}
