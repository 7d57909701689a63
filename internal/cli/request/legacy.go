package request

import (
	"strings"

	"github.com/spf13/pflag"

	"lade/internal/errdefs"
)

// registerLegacy adds flags that are old, for Windows, or refused: scripts
// that carry them in a form which changes nothing go on working, and whoever
// wants more is told what there is.
func (f *Flags) registerLegacy(fs *pflag.FlagSet) {
	list(fs, &f.host.Links, "link", "Add link to another container", link)
	for _, l := range []struct {
		name, kind, none string
		refuse           func(string) error
	}{
		{"kernel-memory", "bytes", "0", refuse("the kernel has no such limit any more; --memory counts its memory too")},
		{"isolation", "string", "default", refuse("want default: other kinds are Windows'")},
		{"use-api-socket", "bool", "false", refuse("a container that reaches the engine's socket is root on this machine; if that is meant, say -v /run/lade/lade.sock:/var/run/docker.sock")},
	} {
		v := &value{kind: l.kind, shown: l.none, set: func(s string) error {
			if s == l.none || s == "" {
				return nil
			}
			return l.refuse(s)
		}}
		flag := fs.VarPF(v, l.name, "", "Not supported")
		flag.Hidden = true
		if l.kind == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
	fs.Bool("disable-content-trust", true, "Skip image verification (has no effect)")
	fs.Lookup("disable-content-trust").Hidden = true
}

func refuse(why string) func(string) error {
	return func(string) error { return errdefs.New(errdefs.NotImplemented, "%s", why) }
}

// link checks CONTAINER or CONTAINER:ALIAS.
func link(s string) (string, error) {
	name, alias, given := strings.Cut(s, ":")
	if name == "" || given && alias == "" || strings.Contains(alias, ":") {
		return "", invalid("bad format for links: %s", s)
	}
	if !given {
		return name + ":" + name, nil
	}
	return s, nil
}
