package tenant

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
)

// maxSecret bounds the size of a secret in a file.
const maxSecret = 1 << 20

// Secret says where a secret is: in an environment variable or in a file. It does
// not hold the secret, so that it can be printed; it is read anew at each use, so
// that a new one in the file is taken up. The zero value is no secret.
type Secret struct{ env, file string }

var environmentName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// FromEnvironment returns the secret in an environment variable. Its error does not
// repeat the name, which may be a secret in the wrong place.
func FromEnvironment(name string) (Secret, error) {
	if !environmentName.MatchString(name) {
		return Secret{}, errors.New("is not the name of an environment variable")
	}
	return Secret{env: name}, nil
}

// FromFile returns the secret in a file.
func FromFile(path string) Secret { return Secret{file: path} }

// SecretError says why a secret cannot be read. It never has content of it.
type SecretError struct {
	// Secret is the one that cannot be read.
	Secret Secret
	// Err is the cause.
	Err error
}

// Error implements error.
func (e *SecretError) Error() string { return fmt.Sprintf("the secret %s %s", e.Secret, e.Err) }

// Unwrap returns the cause.
func (e *SecretError) Unwrap() error { return e.Err }

// ErrEmpty says that there is nothing where a secret should be.
var ErrEmpty = errors.New("is empty")

// Read returns the secret as it is now, without one line break at the end, which
// editors and `echo` leave. It fails with a [*SecretError].
func (s Secret) Read() (string, error) {
	content, err := s.ReadBytes()
	if err != nil {
		return "", err
	}
	trimmed := bytes.TrimSuffix(bytes.TrimSuffix(content, []byte("\n")), []byte("\r"))
	if len(trimmed) == 0 {
		return "", &SecretError{Secret: s, Err: ErrEmpty}
	}
	return string(trimmed), nil
}

// ReadBytes returns the secret as it is now, every byte of it: for certificates and
// keys. It fails with a [*SecretError].
func (s Secret) ReadBytes() ([]byte, error) {
	content, err := s.read()
	if err == nil && len(content) == 0 {
		err = ErrEmpty
	}
	if err != nil {
		return nil, &SecretError{Secret: s, Err: err}
	}
	return content, nil
}

func (s Secret) read() ([]byte, error) {
	if s.file != "" {
		return readFile(s.file)
	}
	if s.env == "" {
		return nil, errors.New("is not configured")
	}
	value, ok := os.LookupEnv(s.env)
	if !ok {
		return nil, errors.New("is not set in the environment")
	}
	return []byte(value), nil
}

// readFile reads a regular file: a pipe would block whoever reads the secret.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("is not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, unreadable(err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err != nil {
		return nil, unreadable(err)
	}
	if len(content) > maxSecret {
		return nil, fmt.Errorf("is larger than %d bytes", maxSecret)
	}
	return content, nil
}

// unreadable drops the path of a file error, which the secret names already.
func unreadable(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return fmt.Errorf("cannot be read: %w", err)
}

// File returns the path of the file, or nothing when the secret is not in one.
func (s Secret) File() string { return s.file }

// String returns where the secret is: `{env: NAME}` or `{file: PATH}`.
func (s Secret) String() string {
	switch {
	case s.file != "":
		return "{file: " + s.file + "}"
	case s.env != "":
		return "{env: " + s.env + "}"
	}
	return "{}"
}

// GoString returns where the secret is.
func (s Secret) GoString() string { return s.String() }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
