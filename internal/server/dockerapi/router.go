package dockerapi

import "strings"

// A route is one operation of the API. Its pattern is a path whose {name}
// stands for one or more segments: names of images contain slashes, and
// Docker's containers may be written with a slash in front.
type route struct {
	method  string
	pattern string
	serve   func(*call) error
}

// router finds the route of a request. Routes are sorted by the first segment
// of their path; among those, one without a name in it goes first.
type router struct {
	byHead map[string][]compiled
}

type compiled struct {
	route
	prefix, suffix string // of the path, around {name}
	named          bool
}

func newRouter(routes []route) *router {
	r := &router{byHead: map[string][]compiled{}}
	for _, named := range []bool{false, true} {
		for _, rt := range routes {
			c := compiled{route: rt}
			c.prefix, c.suffix, c.named = strings.Cut(rt.pattern, "{name}")
			if c.named == named {
				h := head(rt.pattern)
				r.byHead[h] = append(r.byHead[h], c)
			}
		}
	}
	return r
}

// find returns the route for a method and a path, and the name in the path.
func (r *router) find(method, path string) (route, string, bool) {
	for _, c := range r.byHead[head(path)] {
		if c.method != method {
			continue
		}
		if !c.named {
			if path == c.prefix {
				return c.route, "", true
			}
			continue
		}
		name, ok := strings.CutPrefix(path, c.prefix)
		if !ok {
			continue
		}
		name, ok = strings.CutSuffix(name, c.suffix)
		name = strings.TrimPrefix(name, "/")
		if ok && name != "" {
			return c.route, name, true
		}
	}
	return route{}, "", false
}

// head returns the first segment of a path.
func head(path string) string {
	h, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return h
}
