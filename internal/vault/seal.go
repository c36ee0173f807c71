package vault

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// sealer encrypts the secrets of items to those who may read them
// (https://age-encryption.org/v1). Encryption is randomised: so that secrets that are
// the same stay the same file, the header of the file has a tag, a stanza of a type
// that other programs ignore: a keyed hash of the secrets and of the recipients.
type sealer struct {
	recipients []age.Recipient
	// names are the recipients as they are written, sorted.
	names []string
	// keys make tags: the first one new ones; with the others a tag is known.
	keys [][]byte
	// labels are those of all recipients: age demands that they are the same.
	labels []string
}

// ErrMixedRecipients says that some recipients are safe against quantum computers,
// and others are not: what is sealed would not be.
var ErrMixedRecipients = errors.New("has recipients of both kinds, `age1…` and `age1pq1…`")

// CheckRecipient says whether a text is the public key of a recipient. The error does
// not repeat it: it may be a private key in the wrong place.
func CheckRecipient(text string) error {
	if strings.HasPrefix(strings.ToUpper(text), "AGE-SECRET-KEY-") {
		return errors.New("is a private key")
	}
	if _, err := parseRecipient(text); err != nil {
		return errors.New("is not a public key of age")
	}
	return nil
}

func parseRecipient(text string) (age.Recipient, error) {
	recipients, err := age.ParseRecipients(strings.NewReader(text))
	if err == nil && (len(recipients) != 1 || strings.ContainsAny(text, "\r\n")) {
		err = errors.New("not one recipient")
	}
	if err != nil {
		return nil, err
	}
	return recipients[0], nil
}

// CheckRecipients says whether texts, each of which is the public key of a recipient,
// can be used together.
func CheckRecipients(texts []string) error {
	quantum := 0
	for _, text := range texts {
		if isPostQuantum(text) {
			quantum++
		}
	}
	if quantum > 0 && quantum < len(texts) {
		return ErrMixedRecipients
	}
	return nil
}

func isPostQuantum(recipient string) bool { return strings.HasPrefix(recipient, "age1pq1") }

// newSealer returns nil when there are no recipients.
func newSealer(recipients []string, keys [][]byte) (*sealer, error) {
	if len(recipients) == 0 {
		return nil, nil
	}
	s := &sealer{names: slices.Compact(slices.Sorted(slices.Values(recipients))), keys: keys}
	for _, name := range s.names {
		if err := CheckRecipient(name); err != nil {
			return nil, fmt.Errorf("a recipient of secrets %w", err)
		}
		recipient, err := parseRecipient(name)
		if err != nil {
			return nil, err
		}
		s.recipients = append(s.recipients, recipient)
	}
	if isPostQuantum(s.names[0]) {
		s.labels = []string{"postquantum"}
	}
	return s, CheckRecipients(s.names)
}

// name identifies the recipients.
func (s *sealer) name() string {
	sum := sha256.Sum256([]byte(strings.Join(s.names, "\n")))
	return hex.EncodeToString(sum[:4])
}

// seal encrypts secrets, in the form that is text.
func (s *sealer) seal(secrets []byte) ([]byte, error) {
	var out bytes.Buffer
	text := armor.NewWriter(&out)
	recipients := append(slices.Clone(s.recipients), tagStanza{s.tag(s.keys[0], secrets), s.labels})
	encrypted, err := age.Encrypt(text, recipients...)
	if err != nil {
		return nil, fmt.Errorf("sealing secrets: %w", err)
	}
	_, err = encrypted.Write(secrets)
	if err := errors.Join(err, encrypted.Close(), text.Close()); err != nil {
		return nil, fmt.Errorf("sealing secrets: %w", err)
	}
	return out.Bytes(), nil
}

// holds says whether a sealed file has exactly these secrets for these recipients.
// One that is none, or was made by something else, does not.
func (s *sealer) holds(sealed, secrets []byte) bool {
	tag := tagOf(sealed)
	return tag != "" && slices.ContainsFunc(s.keys, func(key []byte) bool {
		return hmac.Equal([]byte(tag), []byte(s.tag(key, secrets)))
	})
}

// tag begins with what no canonical document does, so that no tag is a fingerprint.
func (s *sealer) tag(key, secrets []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("sealed for\n" + strings.Join(s.names, "\n") + "\n\n"))
	mac.Write(secrets)
	return hex.EncodeToString(mac.Sum(nil))
}

// tagType is the type of our stanza. Who decrypts ignores types that it does not know
// (https://c2sp.org/age#recipient-stanza).
const tagType = "understudy-tag"

// tagStanza is no recipient, but puts a tag among them.
type tagStanza struct {
	tag    string
	labels []string
}

// Wrap implements [age.Recipient].
func (t tagStanza) Wrap([]byte) ([]*age.Stanza, error) {
	return []*age.Stanza{{Type: tagType, Args: []string{t.tag}}}, nil
}

// WrapWithLabels implements [age.RecipientWithLabels].
func (t tagStanza) WrapWithLabels(key []byte) ([]*age.Stanza, []string, error) {
	stanzas, err := t.Wrap(key)
	return stanzas, slices.Clone(t.labels), err
}

// tagOf returns the tag of a sealed file, or nothing.
func tagOf(sealed []byte) string {
	header, err := age.ExtractHeader(armor.NewReader(bytes.NewReader(sealed)))
	if err != nil {
		return ""
	}
	for lines := bufio.NewScanner(bytes.NewReader(header)); lines.Scan(); {
		if tag, ok := strings.CutPrefix(lines.Text(), "-> "+tagType+" "); ok {
			return tag
		}
	}
	return ""
}
