package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"golang.org/x/crypto/nacl/secretbox"
)

// box encrypts what a [Store] keeps.
type box struct {
	// form begins every value, before the id of the key: what it is, and its version.
	form string
	key  [32]byte
}

// The forms of values.
const (
	tokenForm   = "understudy-token-1:"
	refusalForm = "understudy-refusal-1:"
)

const nonceSize = 24

func (b box) head() string {
	sum := sha256.Sum256(b.key[:])
	return b.form + hex.EncodeToString(sum[:4])
}

// seal encrypts.
func (b box) seal(content []byte) ([]byte, error) {
	var nonce [nonceSize]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, err
	}
	return secretbox.Seal(append([]byte(b.head()+"\n"), nonce[:]...), content, &nonce, &b.key), nil
}

// open decrypts. It fails when the value is not one of ours, or is damaged.
func (b box) open(value []byte) ([]byte, error) {
	head, sealed, found := strings.Cut(string(value), "\n")
	if !found || head != b.head() || len(sealed) < nonceSize {
		return nil, errors.New("another form or key")
	}
	nonce := [nonceSize]byte([]byte(sealed[:nonceSize]))
	content, ok := secretbox.Open(nil, []byte(sealed[nonceSize:]), &nonce, &b.key)
	if !ok {
		return nil, errors.New("damaged")
	}
	return content, nil
}
