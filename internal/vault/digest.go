package vault

import (
	"crypto/sha256"
	"encoding/binary"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

var _ port.Digester = (*Vault)(nil)

// Digest implements [port.Digester]. It reads and writes nothing.
func (v *Vault) Digest(t *catalog.Type, item port.Item) (port.Digest, error) {
	rules, err := v.rulesOf(t)
	if err != nil {
		return port.Digest{}, err
	}
	content, err := rules.canonical(item.JSON)
	if err != nil {
		return port.Digest{}, err
	}
	h := sha256.New()
	for _, part := range [][]byte{[]byte(item.ID), []byte(item.DisplayName), content} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write(part)
	}
	return port.Digest(h.Sum(nil)), nil
}
