package request

import (
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// value is a flag whose text a function takes.
type value struct {
	kind  string // how the help calls it
	set   func(string) error
	shown string // the default, then what was set
}

// String returns what was set last.
func (v *value) String() string { return v.shown }

// Type returns the word that stands for the value in the help.
func (v *value) Type() string { return v.kind }

// Set takes a value.
func (v *value) Set(s string) error {
	if err := v.set(s); err != nil {
		return err
	}
	v.shown = s
	return nil
}

// into returns a setter that parses and stores.
func into[T any](dst *T, parse func(string) (T, error)) func(string) error {
	return func(s string) error {
		v, err := parse(s)
		if err == nil {
			*dst = v
		}
		return err
	}
}

// mode returns a setter of one of Docker's mode types, which are strings. The
// engine knows what it can do.
func mode[T ~string](dst *T) func(string) error {
	return func(s string) error {
		*dst = T(s)
		return nil
	}
}

// appendTo returns a setter that parses and appends.
func appendTo[T any](dst *[]T, parse func(string) (T, error)) func(string) error {
	return func(s string) error {
		v, err := parse(s)
		if err == nil {
			*dst = append(*dst, v)
		}
		return err
	}
}

// list adds a flag, "name" or "name,shorthand", that may be given many times. A
// nil parse takes all.
func list(fs *pflag.FlagSet, dst *[]string, names, usage string, parse func(string) (string, error)) {
	name, short, _ := strings.Cut(names, ",")
	if parse == nil {
		parse = func(s string) (string, error) { return s, nil }
	}
	fs.VarP(&value{kind: "list", set: appendTo(dst, parse)}, name, short, usage)
}

// pairs adds a flag of the form key=value that may be given many times.
func pairs(fs *pflag.FlagSet, dst *map[string]string, name, usage string) {
	fs.Var(&value{kind: "map", set: func(s string) error {
		k, v, err := pair(s)
		if err != nil {
			return err
		}
		if *dst == nil {
			*dst = map[string]string{}
		}
		(*dst)[k] = v
		return nil
	}}, name, usage)
}

// optional adds a number whose absence is not zero.
func optional[T any](fs *pflag.FlagSet, dst **T, name, usage string, parse func(string) (T, error)) {
	fs.Var(&value{kind: "int", set: func(s string) error {
		v, err := parse(s)
		if err == nil {
			*dst = &v
		}
		return err
	}}, name, usage)
}

// optionalBool adds a switch whose absence is not false.
func optionalBool(fs *pflag.FlagSet, dst **bool, name, usage string) {
	fs.VarPF(&value{kind: "bool", set: func(s string) error {
		v, err := strconv.ParseBool(s)
		if err == nil {
			*dst = &v
		}
		return err
	}}, name, "", usage).NoOptDefVal = "true"
}

func parseInt(s string) (int, error) { return strconv.Atoi(s) }

func parseInt64(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }
