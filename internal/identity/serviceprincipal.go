package identity

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// ServicePrincipalConfig is the credential of a service principal: one of Secret
// and Certificate. They are read at every sign-in, so that a new one is taken up.
type ServicePrincipalConfig struct {
	ClientID string
	Secret   func() (string, error)
	// Certificate returns certificates and an RSA private key in PEM.
	Certificate func() ([]byte, error)
	// SignInTimeout is how long one sign-in may take; 2 minutes when it is zero.
	SignInTimeout time.Duration
}

// ServicePrincipal is the application's own identity in a tenant.
type ServicePrincipal struct {
	*base
	config ServicePrincipalConfig
	// ready is used by one fetch at a time: tokens sees to it.
	ready readyClient
}

// readyClient is MSAL's client for one content of the credential.
type readyClient struct {
	confidential.Client
	of [sha256.Size]byte
	// notAfter is when the certificate ends; zero for a secret.
	notAfter time.Time
}

var _ port.Identity = (*ServicePrincipal)(nil)

// servicePrincipalTimeout bounds one sign-in of a service principal.
const servicePrincipalTimeout = 2 * time.Minute

// NewServicePrincipal returns a service principal. It asks nobody before SignIn.
func NewServicePrincipal(config Config, own ServicePrincipalConfig) (*ServicePrincipal, error) {
	if (own.Secret == nil) == (own.Certificate == nil) {
		return nil, errors.New("a service principal has either a client_secret or a certificate")
	}
	if own.SignInTimeout <= 0 {
		own.SignInTimeout = servicePrincipalTimeout
	}
	method := understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_CLIENT_SECRET
	if own.Certificate != nil {
		method = understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_CERTIFICATE
	}
	b, err := newBase(config, understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL, method)
	if err != nil {
		return nil, err
	}
	return &ServicePrincipal{base: b, config: own}, nil
}

// SignIn implements [port.Identity]. The token is always a fresh one.
func (s *ServicePrincipal) SignIn(ctx context.Context, _ port.SignInOptions) (understudyv1.AuthenticationMethod, error) {
	s.setLost(false)
	_, err := s.tokens.get(ctx, want{way: unattended, fetch: s.fetch, renew: true})
	s.setLost(err == nil)
	return s.method(), err
}

// Token implements [port.Identity].
func (s *ServicePrincipal) Token(ctx context.Context, request port.TokenRequest) (port.Token, error) {
	return s.token(ctx, request, s.fetch)
}

func (s *ServicePrincipal) fetch(ctx context.Context, claims string) (port.Token, error) {
	return s.attempt(ctx, time.Now().Add(s.config.SignInTimeout), func(ctx context.Context, x *exchange) (port.Token, error) {
		c, err := s.client()
		if err != nil {
			s.logger.Error("the service principal's credential cannot be used", "error", err)
			return port.Token{}, s.Fail(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_INVALID_CREDENTIAL)
		}
		var options []confidential.AcquireByCredentialOption
		if claims != "" {
			options = append(options, confidential.WithClaims(claims))
		}
		result, err := c.AcquireTokenByCredential(ctx, s.scopes(), options...)
		if err != nil {
			return port.Token{}, s.refined(classify(s.who(), err, x), x, c.notAfter)
		}
		if foreign(result.AccessToken, s.common.DirectoryID) {
			return port.Token{}, wrongAccount(s.who())
		}
		return port.Token{Value: result.AccessToken, ExpiresOn: result.ExpiresOn}, nil
	})
}

// refined tells a certificate that has expired from one that is wrong: Microsoft
// Entra ID has one code for both (AADSTS700027).
func (s *ServicePrincipal) refined(f *Failure, x *exchange, notAfter time.Time) *Failure {
	if f.failure.GetReason() != understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_INVALID_CREDENTIAL ||
		notAfter.IsZero() || time.Now().Before(notAfter) {
		return f
	}
	v := s.who().standard(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CREDENTIAL_EXPIRED)
	v.answer = x.latest()
	return s.who().failure(v)
}

// client returns MSAL's client for the credential as it is now: a new one when the
// content has changed. Its errors name no content.
func (s *ServicePrincipal) client() (readyClient, error) {
	content, err := s.content()
	if err != nil {
		return readyClient{}, err
	}
	of := sha256.Sum256(content)
	if s.ready.of == of {
		return s.ready, nil
	}
	credential, notAfter, err := s.credential(content)
	if err != nil {
		return readyClient{}, err
	}
	c, err := confidential.New(s.authority(), s.config.ClientID, credential,
		confidential.WithHTTPClient(s.http),
		confidential.WithCache(noCache{}),
		confidential.WithClientCapabilities([]string{"CP1"}),
		confidential.WithInstanceDiscovery(false),
		confidential.WithX5C(),
		// Not by the environment either: it would ask a host that is not the cloud's.
		confidential.WithAzureRegion("DisableMsalForceRegion"),
	)
	if err != nil {
		return readyClient{}, errors.New("MSAL refuses the authority or the client_id")
	}
	s.ready = readyClient{Client: c, of: of, notAfter: notAfter}
	return s.ready, nil
}

// content reads the credential.
func (s *ServicePrincipal) content() ([]byte, error) {
	if s.config.Secret == nil {
		pem, err := s.config.Certificate()
		if err != nil {
			return nil, fmt.Errorf("reading the certificate: %w", err)
		}
		return pem, nil
	}
	secret, err := s.config.Secret()
	if err != nil {
		return nil, fmt.Errorf("reading the client secret: %w", err)
	}
	return []byte(secret), nil
}

func (s *ServicePrincipal) credential(content []byte) (confidential.Credential, time.Time, error) {
	if s.config.Secret != nil {
		credential, err := confidential.NewCredFromSecret(string(content))
		return credential, time.Time{}, err
	}
	certificates, key, err := confidential.CertFromPEM(content, "")
	if err != nil {
		return confidential.Credential{}, time.Time{}, errors.New("the certificate file needs a certificate and its private RSA key, both in PEM")
	}
	credential, err := confidential.NewCredFromCert(certificates, key)
	if err != nil {
		return confidential.Credential{}, time.Time{}, errors.New("the private key is not an RSA key, or of another certificate")
	}
	return credential, notAfter(certificates, key), nil
}

// notAfter returns when the certificate of a key ends.
func notAfter(certificates []*x509.Certificate, key any) time.Time {
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return time.Time{}
	}
	for _, certificate := range certificates {
		if private.PublicKey.Equal(certificate.PublicKey) {
			return certificate.NotAfter
		}
	}
	return time.Time{}
}
