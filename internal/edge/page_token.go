package edge

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A page token is base64url(version || position || mac). The mac covers the
// method's request, but for page_size and page_token: a token is good for the
// request that it was returned to, with any page size.
const (
	tokenVersion = 1
	tokenMAC     = 16
)

// pageRequest is a request for a page.
type pageRequest interface {
	proto.Message
	GetPageSize() int32
	GetPageToken() string
}

// pager makes and reads page tokens.
type pager struct{ key []byte }

// encode returns the token of the page that begins after a position.
func (p pager) encode(request pageRequest, position string) (string, error) {
	content := append([]byte{tokenVersion}, position...)
	mac, err := p.mac(request, content)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(append(content, mac...)), nil
}

// decode returns the position in the token of a request, empty for the first
// page, or an [*invalidError] when the token does not belong to the request.
func (p pager) decode(request pageRequest) (string, error) {
	token := request.GetPageToken()
	if token == "" {
		return "", nil
	}
	wrong := invalidField("page_token",
		"does not belong to this request; pass the next_page_token of a previous response to the same request, or leave it "+
			"empty to begin again")
	content, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(content) <= 1+tokenMAC || content[0] != tokenVersion {
		return "", wrong
	}
	content, mac := content[:len(content)-tokenMAC], content[len(content)-tokenMAC:]
	expected, err := p.mac(request, content)
	if err != nil {
		return "", err
	}
	if !hmac.Equal(mac, expected) {
		return "", wrong
	}
	return string(content[1:]), nil
}

// mac authenticates a position for a request.
func (p pager) mac(request pageRequest, content []byte) ([]byte, error) {
	same := proto.Clone(request).ProtoReflect()
	for _, name := range []protoreflect.Name{"page_size", "page_token"} {
		same.Clear(same.Descriptor().Fields().ByName(name))
	}
	arguments, err := proto.MarshalOptions{Deterministic: true}.Marshal(same.Interface())
	if err != nil {
		return nil, fmt.Errorf("encoding the arguments of a page token: %w", err)
	}
	hash := hmac.New(sha256.New, p.key)
	hash.Write(fmt.Appendf(nil, "%s\x00%d\x00", same.Descriptor().FullName(), len(arguments)))
	hash.Write(arguments)
	hash.Write(content)
	return hash.Sum(nil)[:tokenMAC], nil
}
