package sdbus

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseValue reads a value as GVariant writes it: 'text', true, 7 (of 32
// bits), uint64 7, 1.5, ['a', 'b'].
func ParseValue(text string) (any, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "true" || text == "false":
		return text == "true", nil
	case strings.HasPrefix(text, "["):
		return parseStrings(text)
	case strings.HasPrefix(text, "'") || strings.HasPrefix(text, `"`):
		s, rest, err := quoted(text)
		if err == nil && rest != "" {
			err = fmt.Errorf("unexpected %q after the text", rest)
		}
		return s, err
	}
	if kind, number, ok := strings.Cut(text, " "); ok {
		return parseTyped(kind, strings.TrimSpace(number))
	}
	if n, err := strconv.ParseInt(text, 0, 32); err == nil {
		return int32(n), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !strings.ContainsAny(text, ".eE") || math.IsInf(f, 0) || math.IsNaN(f) {
		return nil, fmt.Errorf("%q is not a value", text)
	}
	return f, nil
}

func parseTyped(kind, number string) (any, error) {
	var v any
	var err error
	switch kind {
	case "int32":
		var n int64
		n, err = strconv.ParseInt(number, 0, 32)
		v = int32(n)
	case "uint32":
		var n uint64
		n, err = strconv.ParseUint(number, 0, 32)
		v = uint32(n)
	case "int64":
		v, err = strconv.ParseInt(number, 0, 64)
	case "uint64":
		v, err = strconv.ParseUint(number, 0, 64)
	case "double":
		v, err = strconv.ParseFloat(number, 64)
	default:
		return nil, fmt.Errorf("%q is not a type of a property", kind)
	}
	if err != nil {
		return nil, fmt.Errorf("%q is not of type %s", number, kind)
	}
	return v, nil
}

// quoted reads a text in quotes, in which a backslash stands before what
// would end it.
func quoted(text string) (s, rest string, err error) {
	quote := text[0]
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == quote:
			return b.String(), strings.TrimSpace(text[i+1:]), nil
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("%q does not end", text)
}

func parseStrings(text string) ([]string, error) {
	list := []string{}
	rest := strings.TrimSpace(text[1:])
	for {
		switch {
		case rest == "]":
			return list, nil
		case rest == "" || rest[0] != '\'' && rest[0] != '"':
			return nil, fmt.Errorf("%q is not a list of texts", text)
		}
		s, after, err := quoted(rest)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
		after, comma := strings.CutPrefix(after, ",")
		if !comma && after != "]" {
			return nil, fmt.Errorf("%q is not a list of texts", text)
		}
		rest = strings.TrimSpace(after)
	}
}

// Microseconds turns seconds, of any type of number, into what systemd takes.
func Microseconds(v any) (uint64, bool) {
	const second = 1_000_000
	switch v := v.(type) {
	case int32:
		return uint64(max(v, 0)) * second, v >= 0
	case uint32:
		return uint64(v) * second, true
	case int64:
		return uint64(max(v, 0)) * second, v >= 0 && v < math.MaxInt64/second
	case uint64:
		return v * second, v < math.MaxUint64/second
	case float64:
		return uint64(max(v, 0) * second), v >= 0 && v < math.MaxInt64/second
	}
	return 0, false
}
