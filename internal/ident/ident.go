// Package ident makes and checks identifiers: the 64 hexadecimal digits that
// name a container, and the names that people give.
package ident

import (
	"crypto/rand"
	"encoding/hex"
)

// Len is the length of an identifier in characters.
const Len = 64

// ShortLen is how much of an identifier is shown to people.
const ShortLen = 12

// New returns a new identifier: 32 random bytes in lower-case hexadecimal. Its
// short form is never all digits, so that it cannot be taken for a number
// (Docker does the same since an all-digit host name broke resolvers).
func New() string {
	for {
		var b [Len / 2]byte
		_, _ = rand.Read(b[:]) // never fails: crypto/rand aborts the program instead
		id := hex.EncodeToString(b[:])
		if !allDigits(id[:ShortLen]) {
			return id
		}
	}
}

// Short returns the form of id that is shown to people.
func Short(id string) string {
	if len(id) <= ShortLen {
		return id
	}
	return id[:ShortLen]
}

// IsID reports whether s is a whole identifier.
func IsID(s string) bool { return len(s) == Len && IsPrefix(s) }

// IsPrefix reports whether s can begin an identifier.
func IsPrefix(s string) bool {
	if s == "" || len(s) > Len {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// IsName reports whether s may name a container, a network or a volume: a
// letter or digit, then at least one letter, digit, '_', '.' or '-' (Docker's
// rule). At most 255 characters, so that a name can be a file's.
func IsName(s string) bool {
	if len(s) < 2 || len(s) > 255 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return true
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
