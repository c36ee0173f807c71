package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// TenantOf returns the `tenants/{tenant}` that a sync name begins with.
func TenantOf(syncName string) string {
	tenant, _, _ := strings.Cut(syncName, "/syncs/")
	return tenant
}

// Start implements [Service].
func (e *Engine) Start(ctx context.Context, request StartRequest) (*understudyv1.Sync, error) {
	spec := request.Spec
	if spec == nil {
		spec = &understudyv1.SyncSpec{}
	}
	return e.accept(ctx, request.Tenant, request.RequestID, "start", &understudyv1.Sync{
		Spec:    spec,
		Trigger: understudyv1.Trigger_TRIGGER_CALLER,
		Creator: request.Creator,
	})
}

// Retry implements [Service].
func (e *Engine) Retry(ctx context.Context, request RetryRequest) (*understudyv1.Sync, error) {
	finished, err := e.syncs.Get(ctx, request.Sync)
	if err != nil {
		return nil, err
	}
	tenant, err := e.tenants.Tenant(TenantOf(request.Sync))
	if err != nil {
		return nil, err
	}
	types, err := e.left(ctx, tenant, finished)
	if err != nil {
		return nil, err
	}
	spec := proto.CloneOf(finished.GetSpec())
	if spec == nil {
		spec = &understudyv1.SyncSpec{}
	}
	spec.ConfigurationTypes, spec.AcceptCollapse = types, known(e.catalog, spec.GetAcceptCollapse())
	spec.Comment = request.Comment
	if request.Policy != understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_UNSPECIFIED {
		spec.AuthenticationPolicy = request.Policy
	}
	if request.AllowPrompt != nil {
		spec.AllowPrompt = request.AllowPrompt
	}
	return e.accept(ctx, TenantOf(request.Sync), request.RequestID, "retry "+request.Sync, &understudyv1.Sync{
		Spec:        spec,
		Trigger:     understudyv1.Trigger_TRIGGER_RETRY,
		RetriedSync: request.Sync,
		Creator:     request.Creator,
	})
}

// left returns the types that a finished sync did not back up completely. A sync
// that committed nothing left all of them.
func (e *Engine) left(ctx context.Context, tenant *Tenant, sync *understudyv1.Sync) ([]string, error) {
	nothing := &NothingToRetryError{Sync: sync.GetName(), State: sync.GetState()}
	if !terminal(sync.GetState()) {
		return nil, nothing
	}
	committed := sync.GetState() != understudyv1.SyncState_SYNC_STATE_FAILED &&
		sync.GetState() != understudyv1.SyncState_SYNC_STATE_CANCELLED
	p := past{results: make(map[string]*understudyv1.ConfigurationResult)}
	for event, err := range e.syncs.Events(ctx, sync.GetName(), 0) {
		if err != nil {
			return nil, err
		}
		p.add(event)
	}
	if !committed && p.types == nil {
		// It ended before it began: what was asked for is still asked for.
		return sync.GetSpec().GetConfigurationTypes(), nil
	}
	types := p.types
	if committed {
		types = p.incomplete()
	}
	if types = known(e.catalogOf(tenant), types); len(types) == 0 {
		return nil, nothing
	}
	return types, nil
}

// known drops types that a catalog does not have, or not any more.
func known(types Catalog, ids []string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		_, ok := types.Get(id)
		return !ok
	})
}

// accept records a sync and queues it.
func (e *Engine) accept(
	ctx context.Context, tenantName, requestID, kind string, sync *understudyv1.Sync,
) (*understudyv1.Sync, error) {
	tenant, err := e.tenants.Tenant(tenantName)
	if err != nil {
		return nil, err
	}
	if _, err := e.newPlan(tenant, sync.GetSpec()); err != nil {
		return nil, err
	}
	digest, err := digestOf(tenantName, kind, sync.GetSpec())
	if err != nil {
		return nil, err
	}
	release, err := e.reserve(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	accepted, created, err := e.syncs.Create(ctx, port.CreateRequest{
		Sync: sync, Tenant: tenantName, RequestID: requestID, Digest: digest,
	})
	if err != nil || !created {
		return accepted, err
	}
	signal(e.wake)
	e.logger.Info("sync accepted", "sync", accepted.GetName(), "trigger", accepted.GetTrigger())
	return accepted, nil
}

// reserve takes a place among the syncs that wait, until the function that it returns
// is called.
func (e *Engine) reserve(ctx context.Context) (release func(), err error) {
	standings, err := e.syncs.Unfinished(ctx)
	if err != nil {
		return nil, err
	}
	waiting := 0
	for _, s := range standings {
		if s.State == understudyv1.SyncState_SYNC_STATE_PENDING {
			waiting++
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if waiting+e.accepting >= e.maxQueued {
		return nil, &LimitError{Subject: "queued syncs", Limit: e.maxQueued}
	}
	e.accepting++
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.accepting--
	}, nil
}

// digestOf identifies the arguments of a request that has a request_id.
func digestOf(tenant, kind string, spec *understudyv1.SyncSpec) (string, error) {
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(spec)
	if err != nil {
		return "", fmt.Errorf("encoding the spec: %w", err)
	}
	hash := sha256.Sum256(fmt.Appendf(content, "\x00%s\x00%s", tenant, kind))
	return hex.EncodeToString(hash[:]), nil
}

// Changes implements [Service].
func (e *Engine) Changes(ctx context.Context, name, configurationType string) iter.Seq2[*understudyv1.ItemChange, error] {
	return func(yield func(*understudyv1.ItemChange, error) bool) {
		sync, err := e.syncs.Get(ctx, name)
		if err != nil {
			yield(nil, err)
			return
		}
		if !sync.GetSnapshot().GetCreated() {
			return
		}
		tenant, err := e.tenants.Tenant(TenantOf(name))
		if err != nil {
			yield(nil, err)
			return
		}
		for change, err := range tenant.Vault.Changes(ctx, sync.GetSnapshot().GetCommit(), configurationType) {
			if !yield(change, err) || err != nil {
				return
			}
		}
	}
}

// readers returns who reads the types of a plan, by id.
func readers(p *plan) map[string]understudyv1.Identity {
	identities := make(map[string]understudyv1.Identity, len(p.types))
	for _, t := range p.types {
		identities[t.ID] = p.reader(t)
	}
	return identities
}
