package layer

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"
)

// maxXattrs is what the count in an EROFS inode can say: 4-byte units beyond a
// header of 12 bytes.
const maxXattrs = 12 + 4*0xfffe

const (
	xattrHeader   = 12
	paxXattr      = "SCHILY.xattr."
	overlayXattr  = "trusted.overlay."
	escapedXattr  = "trusted.overlay.overlay."
	opaqueXattr   = "trusted.overlay.opaque"
	capXattr      = "security.capability"
	aclXattr      = "system.posix_acl_access"
	defaultXattr  = "system.posix_acl_default"
	userPrefix    = "user."
	trustedPrefix = "trusted."
)

// xattrPrefixes are the name spaces that EROFS has a number for. The numbers 2
// and 3 stand for a whole name.
var xattrPrefixes = [...]struct {
	prefix string
	number byte
}{{userPrefix, 1}, {aclXattr, 2}, {defaultXattr, 3}, {trustedPrefix, 4}, {"security.", 6}}

// xattrsOf returns the extended attributes of a header that a layer may set.
//
// An image has no say in what belongs to the host: labels of its security
// modules, integrity signatures, unknown name spaces. What overlayfs reads is
// ours alone; the same names from a tar, as an image with images inside may
// have them, are escaped, so that they show in the container and mean nothing
// to the host's overlay.
func xattrsOf(records map[string]string) (map[string]string, error) {
	var xattrs map[string]string
	for key, value := range records {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok {
			continue
		}
		switch {
		case name == aclXattr || name == defaultXattr:
			// A set that the kernel cannot read makes the file unusable.
			if len(value) < 4 || len(value)%8 != 4 || binary.LittleEndian.Uint32([]byte(value)) != 2 {
				return nil, invalid("malformed attribute %s", name)
			}
		case strings.HasPrefix(name, overlayXattr):
			name = escapedXattr + strings.TrimPrefix(name, overlayXattr)
		case name == capXattr, strings.HasPrefix(name, userPrefix), strings.HasPrefix(name, trustedPrefix):
		default:
			continue
		}
		switch _, suffix := splitXattr(name); {
		case len(name) > nameMax:
			return nil, invalid("attribute name of %d bytes: %.40q...", len(name), name)
		case len(value) > 0xffff:
			return nil, exceeded("attribute %s has %d bytes", name, len(value))
		case suffix == "" && name != aclXattr && name != defaultXattr, strings.ContainsRune(name, 0):
			return nil, invalid("attribute name %q", name)
		}
		if xattrs == nil {
			xattrs = map[string]string{}
		}
		xattrs[name] = value
	}
	return xattrs, nil
}

func splitXattr(name string) (number byte, suffix string) {
	for _, p := range xattrPrefixes {
		if s, ok := strings.CutPrefix(name, p.prefix); ok {
			return p.number, s
		}
	}
	return 0, name
}

// encodeXattrs returns the attributes as they follow an EROFS inode, sorted, or
// nothing for none.
func encodeXattrs(xattrs map[string]string) []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		b = appendXattr(b, name, xattrs[name])
	}
	return b
}

func appendXattr(b []byte, name, value string) []byte {
	if len(b) == 0 {
		b = append(b, make([]byte, xattrHeader)...)
	}
	number, suffix := splitXattr(name)
	b = append(b, byte(len(suffix)), number)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	b = append(b, suffix...)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// decodeXattrs is the reverse of encodeXattrs. It reports malformed input.
func decodeXattrs(b []byte) (map[string]string, bool) {
	if len(b) == 0 {
		return nil, true
	}
	if len(b) < xattrHeader {
		return nil, false
	}
	xattrs := map[string]string{}
	for b = b[xattrHeader:]; len(b) > 0; {
		if len(b) < 4 {
			return nil, false
		}
		suffix, value := int(b[0]), int(binary.LittleEndian.Uint16(b[2:]))
		size := (4 + suffix + value + 3) &^ 3
		i := slices.IndexFunc(xattrPrefixes[:], func(p struct {
			prefix string
			number byte
		},
		) bool {
			return p.number == b[1]
		})
		if i < 0 || size > len(b) {
			return nil, false
		}
		xattrs[xattrPrefixes[i].prefix+string(b[4:4+suffix])] = string(b[4+suffix : 4+suffix+value])
		b = b[size:]
	}
	return xattrs, true
}
