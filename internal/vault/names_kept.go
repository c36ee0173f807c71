package vault

import (
	"bytes"
	"errors"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// unreadTypes are the types, and the folders of types, of which it cannot be read what
// their items are called.
type unreadTypes map[string]struct{}

func (u unreadTypes) has(id string) bool {
	workload, _, _ := strings.Cut(id, "/")
	_, isType := u[id]
	_, isWorkload := u[workload]
	return isType || isWorkload
}

// errBrokenIndex says that an index is no JSON.
var errBrokenIndex = errors.New("the index is broken")

func (s *staging) noteUnread(unread unreadTypes, id string, err error) {
	unread[id] = struct{}{}
	s.vault.logger.Warn("what the items of a configuration type are called cannot be read; other types keep the names that they had of them. "+
		"A complete reading of the type mends an index that was broken by hand, `understudy repair` looks for damage", "configuration_type", id, "error", err)
}

// keepNames finds what the last commit calls items of types that cannot be read now: the
// first law holds for names, too. Each type keeps its own.
func (s *staging) keepNames(written []*stagedType, unread unreadTypes) error {
	if len(unread) == 0 {
		return nil
	}
	for _, staged := range written {
		runs, err := s.namesOf(staged, unread)
		if err != nil {
			s.vault.logger.Warn("the names that a configuration type had cannot be read, and are made anew", "configuration_type", staged.id, "error", err)
			continue
		}
		for _, of := range sortedKeys(runs) {
			if err := staged.keptNames.add(runs[of], idStream{of: of, named: true}); err != nil {
				return err
			}
		}
	}
	return nil
}

// namesOf returns what the last file of names of a type says of the items of others, by
// these, as runs.
func (s *staging) namesOf(staged *stagedType, others unreadTypes) (map[string]*spool, error) {
	runs := map[string]*spool{}
	err := s.eachNameBefore(staged, func(id objectGUID, rest []byte) error {
		of, name, ok := parseNamed(rest)
		if !ok || !others.has(of) {
			return nil
		}
		if runs[of] == nil {
			runs[of] = &spool{scratch: s.scratch}
		}
		_, err := runs[of].Write(appendNamed(nil, id, name))
		return err
	})
	return runs, err
}

// parseNamed reads what a line of a file of names says after the id: the type of the
// item, and its name, which is JSON. No string of JSON holds namedName: a quote in a
// string has a backslash before it.
func parseNamed(rest []byte) (of string, name []byte, ok bool) {
	rest, isOurs := bytes.CutPrefix(rest, []byte(namedType))
	quoted, name, hasName := bytes.Cut(rest, []byte(namedName))
	name, ends := bytes.CutSuffix(bytes.TrimSuffix(name, []byte(",")), []byte("}"))
	text, err := jsontext.AppendUnquote(nil, quoted)
	return string(text), name, isOurs && hasName && ends && err == nil
}
