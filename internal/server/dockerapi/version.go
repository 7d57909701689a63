package dockerapi

import (
	"fmt"
	"strconv"
	"strings"

	"lade/internal/errdefs"
)

// The versions of the Docker Engine API that the handler speaks.
const (
	MinVersion = "1.44"
	MaxVersion = "1.56"
)

// apiVersion is a version of the API: major and minor.
type apiVersion struct{ major, minor int }

var (
	oldest = apiVersion{1, 44}
	newest = apiVersion{1, 56}
)

func (v apiVersion) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

// before reports whether v is older than 1.minor.
func (v apiVersion) before(minor int) bool { return v.less(apiVersion{1, minor}) }

func (v apiVersion) less(w apiVersion) bool {
	return v.major < w.major || v.major == w.major && v.minor < w.minor
}

// splitVersion takes the version off the front of a path: /v1.50/info is
// /info in version 1.50. A path without one is meant in the newest. The texts
// of the errors are Docker's: clients look for them.
func splitVersion(path string) (apiVersion, string, error) {
	rest, ok := strings.CutPrefix(path, "/v")
	if !ok || rest == "" || rest[0] < '0' || rest[0] > '9' {
		return newest, path, nil
	}
	text, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return newest, path, nil
	}
	v, err := parseVersion(text)
	switch {
	case err != nil:
		return newest, path, err
	case v.less(oldest):
		return v, path, errdefs.New(errdefs.Invalid, "client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", text, MinVersion)
	case newest.less(v):
		return v, path, errdefs.New(errdefs.Invalid, "client version %s is too new. Maximum supported API version is %s", text, MaxVersion)
	}
	return v, "/" + rest, nil
}

func parseVersion(text string) (apiVersion, error) {
	a, b, ok := strings.Cut(text, ".")
	major, err1 := strconv.ParseUint(a, 10, 16)
	minor, err2 := strconv.ParseUint(b, 10, 16)
	if !ok || err1 != nil || err2 != nil {
		return apiVersion{}, errdefs.New(errdefs.Invalid, "invalid API version %q: want one like v%s", text, MaxVersion)
	}
	return apiVersion{int(major), int(minor)}, nil
}
