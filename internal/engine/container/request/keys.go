package request

import (
	"strings"

	"lade/internal/errdefs"
)

// DetachKeys reads Docker's notation of the keys that end an attached session,
// "ctrl-p,ctrl-q" where s is empty.
func DetachKeys(s string) ([]byte, error) {
	if s == "" {
		return []byte{16, 17}, nil
	}
	var out []byte
	for k := range strings.SplitSeq(s, ",") {
		ctrl, isCtrl := strings.CutPrefix(k, "ctrl-")
		switch {
		case len(k) == 1:
			out = append(out, k[0])
		case isCtrl && len(ctrl) == 1 && ctrl[0] >= 'a' && ctrl[0] <= 'z':
			out = append(out, ctrl[0]-'a'+1)
		case isCtrl && len(ctrl) == 1 && strings.Contains("@[\\]^_", ctrl):
			out = append(out, ctrl[0]-'@')
		case k == "DEL":
			out = append(out, 127)
		default:
			return nil, errdefs.New(errdefs.Invalid, "invalid detach keys %q: unknown key %q", s, k)
		}
	}
	return out, nil
}
