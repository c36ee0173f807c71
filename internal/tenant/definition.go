package tenant

import (
	"strings"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// Definition is a tenant as it is configured.
type Definition struct {
	// ID is the {tenant} of `tenants/{tenant}`. Backups and sign-ins are stored
	// under it: another id is another tenant.
	ID string `yaml:"id" required:"contoso"`
	// DisplayName is for people; the ID when empty.
	DisplayName string `yaml:"display_name"`
	// DirectoryID is the id of the directory (tenant) in Microsoft Entra ID.
	DirectoryID string `yaml:"directory_id" required:"22222222-2222-4222-8222-222222222222"`
	// Cloud is the name of the cloud that the directory is in.
	Cloud string `yaml:"cloud" default:"global"`
	// ConfigurationTypes are the patterns of what is backed up: `*`, `intune/*` or
	// the id of a type.
	ConfigurationTypes []string `yaml:"configuration_types" default:"[\"*\"]"`
	// Exclude are the patterns of what is never backed up, whoever asks for it.
	Exclude []string `yaml:"exclude"`
	// Filters narrow the lists of types.
	Filters Filters `yaml:"filters"`
	// ServicePrincipal is the lead.
	ServicePrincipal ServicePrincipal `yaml:"service_principal" required:"{client_id: …, client_secret: {env: NAME}}"`
	// User plays the parts that only a user can; nil: those parts are left out.
	User *User `yaml:"user"`
	// AuthenticationPolicy says what to do when the user cannot sign in. Without a
	// user it is SERVICE_PRINCIPAL_ONLY.
	AuthenticationPolicy understudyv1.AuthenticationPolicy `yaml:"authentication_policy" default:"continue_without_user"`
	// Repository is where the backup goes.
	Repository Repository `yaml:"repository"`
	// Secrets says what becomes of the secrets in the backup.
	Secrets Secrets `yaml:"secrets"`
}

// Secrets says what becomes of the secrets in a backup, beside their fingerprints.
type Secrets struct {
	// Recipients are public keys of age. The secrets are sealed to all of them; empty:
	// they are not in the backup.
	Recipients []string `yaml:"recipients"`
}

// Filters are OData filters, by the id of the configuration type that each narrows.
type Filters map[string]string

// ServicePrincipal is the application's own identity in the tenant. It has a client
// secret or a certificate, not both.
type ServicePrincipal struct {
	// ClientID is the application (client) id of the app registration.
	ClientID string `yaml:"client_id" required:"33333333-3333-4333-8333-333333333333"`
	// ClientSecret is the value, not the id, of a client secret.
	ClientSecret *Secret `yaml:"client_secret"`
	// Certificate is a certificate and its private key, both in PEM form.
	Certificate *Secret `yaml:"certificate"`
}

// Method says how a user signs in.
type Method string

// The methods of a user.
const (
	// Delegated is a person, asked once with a device code; after that the stored
	// sign-in is used.
	Delegated Method = "delegated"
	// ServiceAccount is a user name with a password.
	ServiceAccount Method = "service_account"
)

// User is the user account of a tenant.
type User struct {
	// Method says how the user signs in.
	Method Method `yaml:"method" required:"delegated"`
	// Username is the user principal name. A service account needs it; with a
	// delegated sign-in, nobody else may complete it.
	Username string `yaml:"username"`
	// Password is that of a service account.
	Password *Secret `yaml:"password"`
	// ClientID is the application that the user signs in to; the service
	// principal's when empty.
	ClientID string `yaml:"client_id"`
	// SignInTimeout is how long one sign-in may take, also that of a service
	// account.
	SignInTimeout time.Duration `yaml:"sign_in_timeout" default:"5m"`
	// AllowPrompt permits to ask a person, unless a sync says otherwise. A service
	// account asks nobody.
	AllowPrompt bool `yaml:"allow_prompt" default:"true"`
}

// Repository is the Git repository of a tenant's backup.
type Repository struct {
	// Branch is the branch that the backup is on.
	Branch string `yaml:"branch" default:"main"`
	// Remote is the repository that is pushed to after every commit; empty: none.
	Remote string `yaml:"remote" default:""`
	// Username goes with Token; empty: a name that most hosts take.
	Username string `yaml:"username"`
	// Token is the password for an https remote.
	Token *Secret `yaml:"token"`
	// SSHKey is the private key for an ssh remote, without a passphrase; nil: the
	// SSH agent.
	SSHKey *Secret `yaml:"ssh_key"`
	// KnownHostsFile has the keys of ssh hosts, in the form of OpenSSH; empty: the
	// file of the account that the service runs as.
	KnownHostsFile string `yaml:"known_hosts_file" path:"file"`
	// CAFile has the certificates, in PEM form, to trust for an https remote beside
	// those of the system; empty: none.
	CAFile string `yaml:"ca_file" path:"file"`
}

// Complete puts in what follows from other parts of the definition.
func (d *Definition) Complete() {
	if d.DisplayName == "" {
		d.DisplayName = d.ID
	}
	d.DirectoryID = strings.ToLower(d.DirectoryID)
	d.ServicePrincipal.ClientID = strings.ToLower(d.ServicePrincipal.ClientID)
	if d.User == nil {
		d.AuthenticationPolicy = understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_SERVICE_PRINCIPAL_ONLY
		return
	}
	d.User.ClientID = strings.ToLower(d.User.ClientID)
	if d.User.ClientID == "" {
		d.User.ClientID = d.ServicePrincipal.ClientID
	}
}
