package identity

import (
	"context"
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
	// Certificate returns certificates and private key in PEM.
	Certificate func() ([]byte, error)
}

// ServicePrincipal is the application's own identity in a tenant.
type ServicePrincipal struct {
	base
	config ServicePrincipalConfig
}

var _ port.Identity = (*ServicePrincipal)(nil)

// servicePrincipalTimeout bounds one sign-in of a service principal.
const servicePrincipalTimeout = 2 * time.Minute

// NewServicePrincipal returns a service principal. It asks nobody before SignIn.
func NewServicePrincipal(config Config, own ServicePrincipalConfig) (*ServicePrincipal, error) {
	if (own.Secret == nil) == (own.Certificate == nil) {
		return nil, errors.New("a service principal has either a client_secret or a certificate")
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

// SignIn implements [port.Identity].
func (s *ServicePrincipal) SignIn(ctx context.Context, _ port.SignInOptions) (understudyv1.AuthenticationMethod, error) {
	s.setLost(false)
	_, err := s.Token(ctx, port.TokenRequest{})
	s.setLost(err == nil)
	return s.method(), err
}

// Token implements [port.Identity].
func (s *ServicePrincipal) Token(ctx context.Context, request port.TokenRequest) (port.Token, error) {
	return s.tokens.get(ctx, request, s.fetch)
}

func (s *ServicePrincipal) fetch(parent context.Context, claims string) (port.Token, error) {
	ctx, cancel := context.WithTimeoutCause(parent, servicePrincipalTimeout, errSignInDeadline)
	defer cancel()
	ctx, x := withExchange(ctx)
	credential, err := s.credential()
	if err != nil {
		s.logger.Error("the service principal's credential cannot be used", "tenant", s.shared().Tenant, "error", err)
		return port.Token{}, s.who().failure(verdict{
			reason: understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_INVALID_CREDENTIAL, actor: operator,
		})
	}
	options := []confidential.Option{
		confidential.WithHTTPClient(&client{http: s.http}),
		confidential.WithClientCapabilities([]string{"CP1"}),
		confidential.WithX5C(),
	}
	if !s.cloud.builtIn() {
		options = append(options, confidential.WithInstanceDiscovery(false))
	}
	c, err := confidential.New(s.authority(), s.config.ClientID, credential, options...)
	if err != nil {
		return port.Token{}, s.who().failure(verdict{
			reason: understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_APPLICATION_MISCONFIGURED, actor: operator,
		})
	}
	var acquire []confidential.AcquireByCredentialOption
	if claims != "" {
		acquire = append(acquire, confidential.WithClaims(claims))
	}
	result, err := c.AcquireTokenByCredential(ctx, s.scopes(), acquire...)
	if err != nil {
		return port.Token{}, s.failed(parent, ctx, err, x)
	}
	if foreign(result.AccessToken, s.directoryID) {
		return port.Token{}, wrongAccount(s.who())
	}
	return port.Token{Value: result.AccessToken, ExpiresOn: result.ExpiresOn}, nil
}

// credential reads the credential anew. Its errors name no content.
func (s *ServicePrincipal) credential() (confidential.Credential, error) {
	if s.config.Secret != nil {
		secret, err := s.config.Secret()
		if err != nil {
			return confidential.Credential{}, fmt.Errorf("reading the client secret: %w", err)
		}
		return confidential.NewCredFromSecret(secret)
	}
	pem, err := s.config.Certificate()
	if err != nil {
		return confidential.Credential{}, fmt.Errorf("reading the certificate: %w", err)
	}
	certificates, key, err := confidential.CertFromPEM(pem, "")
	if err != nil {
		return confidential.Credential{}, errors.New("the certificate file needs a certificate and its private key, both in PEM")
	}
	return confidential.NewCredFromCert(certificates, key)
}
