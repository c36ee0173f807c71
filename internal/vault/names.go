package vault

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"
)

// maxName bounds a file name without its ending: 255 bytes are what file systems
// take, less room for `.json` and what tools append.
const maxName = 150

// SafeName returns the file name, without ending, of an id that may be anything.
//
// Different ids get different names, also where case does not count; equal ids get
// equal names, whatever other ids there are. An id that is safe keeps its name: it
// has 1 to 150 of the characters a-z, 0-9, `-`, `_` and `.`, no dot at either end,
// and its part before the first dot is no name that Windows or this package
// reserves. Every other id becomes up to 60 of its characters, with `_` for those
// that are not safe, then `~` and 32 digits of its SHA-256. A `~` is never in an id
// that keeps its name, so no id can look like the name of another.
func SafeName(id string) string {
	if safe(id) {
		return id
	}
	hash := sha256.Sum256([]byte(id))
	var name strings.Builder
	for _, r := range id {
		if name.Len() >= 60 {
			break
		}
		switch {
		case r > unicode.MaxASCII, !allowed(byte(r)):
			name.WriteByte('_')
		default:
			name.WriteRune(r)
		}
	}
	readable := strings.Trim(name.String(), "._ ")
	if reserved(readable) {
		readable = "_" + readable
	}
	return readable + "~" + hex.EncodeToString(hash[:16])
}

// safe says whether an id is its own name. Upper-case letters are not safe: two
// ids that differ in case only would meet on a file system that ignores it. Ids of
// Microsoft Graph are lower case, or carry meaning in case (base64).
func safe(id string) bool {
	if id == "" || len(id) > maxName || id[0] == '.' || id[len(id)-1] == '.' || reserved(id) {
		return false
	}
	for i := range len(id) {
		if c := id[i]; !allowed(c) || (c >= 'A' && c <= 'Z') {
			return false
		}
	}
	return true
}

func allowed(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
}

// reserved says whether Windows keeps a name for itself, or this package does.
// https://learn.microsoft.com/windows/win32/fileio/naming-a-file#naming-conventions
func reserved(name string) bool {
	stem, _, _ := strings.Cut(strings.ToLower(name), ".")
	switch stem {
	case "con", "prn", "aux", "nul", "_index", "_names":
		return true
	}
	return len(stem) == 4 && (strings.HasPrefix(stem, "com") || strings.HasPrefix(stem, "lpt")) && stem[3] >= '0' && stem[3] <= '9'
}
