package command

import (
	"strconv"
	"strings"

	"lade/internal/errdefs"
)

// flag is one flag. Names are separated by spaces; set is given its value,
// which a boolean flag need not have.
type flag struct {
	names   string
	boolean bool
	set     func(string) error
}

type flagSet []flag

func text(names string, to *string) flag {
	return flag{names: names, set: func(v string) error { *to = v; return nil }}
}

func list(names string, to *[]string) flag {
	return flag{names: names, set: func(v string) error { *to = append(*to, v); return nil }}
}

func boolean(names string, to *bool) flag {
	return flag{names: names, boolean: true, set: func(v string) (err error) {
		*to, err = strconv.ParseBool(v)
		return err
	}}
}

func number(names string, to *int) flag {
	return flag{names: names, set: func(v string) error {
		n, err := strconv.ParseUint(v, 10, 16)
		*to = int(n)
		return err
	}}
}

// parse sets the flags that args hold and returns the other arguments. A flag
// begins with one dash or two; its value follows after "=" or as the next
// argument. "--" ends the flags; so does the first other argument, unless they
// may be mixed.
func (fs flagSet) parse(args []string, mixed bool) ([]string, error) {
	var rest []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			return append(rest, args...), nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			rest = append(rest, arg)
			if !mixed {
				return append(rest, args...), nil
			}
			continue
		}
		name, value, given := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		f := fs.find(name)
		switch {
		case f == nil && isHelp(arg):
			return nil, &helpError{fs}
		case f == nil:
			return nil, errdefs.Hint(errdefs.New(errdefs.Invalid, "flag provided but not defined: -%s", name), "see lade-runtime --help")
		case given:
		case f.boolean:
			value = "true"
		case len(args) == 0:
			return nil, errdefs.New(errdefs.Invalid, "flag needs an argument: -%s", name)
		default:
			value, args = args[0], args[1:]
		}
		if err := f.set(value); err != nil {
			return nil, errdefs.New(errdefs.Invalid, "invalid value %q for flag -%s", value, name)
		}
	}
	return rest, nil
}

func (fs flagSet) find(name string) *flag {
	for i := range fs {
		for n := range strings.FieldsSeq(fs[i].names) {
			if n == name {
				return &fs[i]
			}
		}
	}
	return nil
}
