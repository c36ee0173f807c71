package vault

import (
	"fmt"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// Basis implements [port.Staging]. A type of which something was lost has none, so that it
// is read in full.
func (s *staging) Basis(t *catalog.Type) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pack == nil || s.closed {
		return "", errDone
	}
	staged, err := s.typeOf(t)
	if err != nil {
		return "", err
	}
	return s.basisOf(staged), nil
}

func (s *staging) basisOf(staged *stagedType) string {
	if entry := s.coverage[staged.id]; entry != nil && entry.Reason == damagedReason {
		return ""
	}
	return s.vault.basis(staged.bareBefore)
}

// basis names a folder without its names, the keys of the fingerprints in it, and to whom its secrets
// are sealed: where one of them is another, every item is to be read again.
func (v *Vault) basis(tree plumbing.Hash) string {
	if tree.IsZero() {
		return ""
	}
	return tree.String() + ":" + v.keysName()
}

// keysName names the keys of fingerprints, and to whom secrets are sealed.
func (v *Vault) keysName() string {
	parts := []string{keyName(v.config.FingerprintKey)}
	for _, key := range v.config.PreviousFingerprintKeys {
		parts = append(parts, keyName(key))
	}
	if v.sealer != nil {
		parts = append(parts, v.sealer.name())
	}
	return strings.Join(parts, ":")
}

// overlay makes what was staged by delta into everything: it takes over what the
// last commit has, but for what was removed. It refuses a reading that builds on
// something else: what is taken over would then not be what the tenant has.
func (s *staging) overlay(t *catalog.Type, staged *stagedType, reading port.Reading) error {
	if basis := s.basisOf(staged); basis == "" || basis != reading.Since {
		return fmt.Errorf("the reading of %s by delta builds on another backup than this one", t.ID)
	}
	removed := make(map[string]bool, len(reading.Removed))
	for _, id := range reading.Removed {
		removed[SafeName(id)+fileEnding] = true
	}
	return s.takeOver(staged, removed)
}
