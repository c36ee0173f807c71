package vault

import (
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// sideFile is a file that belongs to an item and stands beside it: its sealed
// secrets, or a payload of it. Whatever happens to the item happens to it.
type sideFile struct {
	name string
	id   plumbing.Hash
}

// madeSide is a side file with what is to be stored of it; nil: it is there.
type madeSide struct {
	sideFile
	content []byte
}

// secretsSuffix goes with the name of an item, without its ending.
const secretsSuffix = ".secrets.age"

// itemOfSide returns the item that a side file belongs to if its name is that of one:
// `<item>.<property>.<extension>`, the property without a dot. So no two items can
// have the same side file, nor can one be an item. Names are taken for side files
// also where the catalog has no such rule: an earlier one may have had it.
func itemOfSide(name string) (item string, ok bool) {
	rest, extension, ok := cutLast(name)
	if !ok {
		return "", false
	}
	stem, property, ok := cutLast(rest)
	switch {
	case !ok || stem == "" || !isProperty(property):
		return "", false
	case strings.HasSuffix(name, secretsSuffix), slices.Contains(catalog.PayloadExtensions, extension):
		return stem + fileEnding, true
	}
	return "", false
}

// cutLast cuts a name at its last dot.
func cutLast(name string) (before, after string, ok bool) {
	at := strings.LastIndexByte(name, '.')
	if at < 0 {
		return "", "", false
	}
	return name[:at], name[at+1:], true
}

func isProperty(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
	})
}

// splitSides returns the side files of items, by the item's name and each sorted, and
// the entries that are none: a side file without its item is somebody else's.
func splitSides(entries []treeEntry, isItem func(name string) (bool, error)) (sides map[string][]sideFile, rest []treeEntry, err error) {
	for _, entry := range entries {
		item, ok := itemOfSide(entry.name)
		if ok = ok && entry.isFile(); ok {
			if ok, err = isItem(item); err != nil {
				return nil, nil, err
			}
		}
		if !ok {
			rest = append(rest, entry)
			continue
		}
		if sides == nil {
			sides = map[string][]sideFile{}
		}
		sides[item] = append(sides[item], sideFile{entry.name, entry.id})
	}
	for _, of := range sides {
		slices.SortFunc(of, bySideName)
	}
	return sides, rest, nil
}

func bySideName(a, b sideFile) int { return strings.Compare(a.name, b.name) }

// filesOf returns what is stored of an item: its content, and the files beside it,
// sorted.
func (s *staging) filesOf(t *catalog.Type, r *rules, name string, text []byte) ([]byte, []madeSide, error) {
	v := s.vault
	want := wanted{payloads: len(r.payloads) > 0, secrets: v.sealer != nil}
	d, err := r.document(text, want)
	if err != nil {
		return nil, nil, err
	}
	stem := strings.TrimSuffix(name, fileEnding)
	var last stored
	if d.hidden > 0 && (v.sealer != nil || len(r.previous) > 0) {
		if last, err = s.stored(t, name, objectID(plumbing.BlobObject, d.content)); err != nil {
			return nil, nil, err
		}
	}
	if len(last.fingerprints) > 0 {
		want.stored = last.fingerprints
		if d, err = r.document(text, want); err != nil {
			return nil, nil, err
		}
	}
	var sides []madeSide
	for _, p := range d.payloads {
		sides = append(sides, made(stem+p.suffix, p.content))
	}
	if d.secrets != nil {
		sealed, err := s.sealed(stem+secretsSuffix, last, d.secrets)
		if err != nil {
			return nil, nil, err
		}
		sides = append(sides, sealed)
	}
	slices.SortFunc(sides, func(a, b madeSide) int { return bySideName(a.sideFile, b.sideFile) })
	return d.content, sides, nil
}

func made(name string, content []byte) madeSide {
	return madeSide{sideFile{name, objectID(plumbing.BlobObject, content)}, content}
}

// sealed returns the side file with an item's secrets: the one that there is, while
// it has the same secrets for the same recipients. A new one would be another file.
func (s *staging) sealed(name string, last stored, secrets []byte) (madeSide, error) {
	if s.vault.sealer.holds(last.sealed, secrets) {
		return madeSide{sideFile: sideFile{name, last.sealedID}}, nil
	}
	content, err := s.vault.sealer.seal(secrets)
	return made(name, content), err
}

// stored is what the last commit has of an item's secrets.
type stored struct {
	// fingerprints are in the item, unless it is the same.
	fingerprints map[string]struct{}
	sealed       []byte
	sealedID     plumbing.Hash
}

// stored reads what the last commit has of the secrets of an item. id is what the
// item would be without that.
func (s *staging) stored(t *catalog.Type, name string, id plumbing.Hash) (last stored, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	staged, err := s.unsettled(t)
	if err != nil {
		return last, err
	}
	before, ok, err := staged.before.find(name)
	if err != nil {
		return last, &port.StorageError{Err: err}
	}
	if ok && before != id && len(s.vault.config.PreviousFingerprintKeys) > 0 {
		content, err := readBlob(s.storage, before)
		if err != nil {
			return last, err
		}
		last.fingerprints = fingerprintsIn(content)
	}
	for _, side := range staged.sidesBefore[name] {
		if s.vault.sealer != nil && strings.HasSuffix(side.name, secretsSuffix) {
			last.sealedID = side.id
			last.sealed, err = readBlob(s.storage, side.id)
		}
	}
	return last, err
}

// fingerprintsIn returns the texts in a document that are fingerprints.
func fingerprintsIn(content []byte) map[string]struct{} {
	found := map[string]struct{}{}
	for part := range strings.SplitSeq(string(content), `"`+fingerprintPrefix) {
		if text, _, ok := strings.Cut(part, `"`); ok {
			found[fingerprintPrefix+text] = struct{}{}
		}
	}
	return found
}

// sidesOf returns side files without what is in them.
func sidesOf(made []madeSide) []sideFile {
	if len(made) == 0 {
		return nil
	}
	sides := make([]sideFile, len(made))
	for i, side := range made {
		sides[i] = side.sideFile
	}
	return sides
}

// storeSides stores what was made.
func (s *staging) storeSides(sides []madeSide) error {
	for _, side := range sides {
		if side.content == nil {
			continue
		}
		if err := s.store(side.id, side.content); err != nil {
			return err
		}
	}
	return nil
}
