// Package facts holds what Microsoft and the peers document about tenant
// configuration, as five tables: the endpoints of Microsoft Graph with their
// least privileged permissions, the AADSTS codes, the configurations that the
// reference product covers, the endpoints that EntraExporter and IntuneCD read,
// and the delta functions.
//
// The tables are embedded and read anew by every call; the caller owns the
// rows. Facts prove the product, they are no part of it: only tests, the
// simulator and the coverage page import this package.
//
// The endpoints come from Microsoft's permission data (microsoft-graph-devx-content,
// permissions.json) and metadata (v1.0 CSDL, beta typings), one row per path, in
// v1.0 where v1.0 has it, else in beta. The codes come from
// https://learn.microsoft.com/entra/identity-platform/reference-error-codes
// except where a row says otherwise.
package facts
