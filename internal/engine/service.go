package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
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
	var types []string
	for event, err := range e.syncs.Events(ctx, sync.GetName(), 0) {
		if err != nil {
			return nil, err
		}
		if started := event.GetStarted(); started != nil && !committed {
			if types = known(e.catalogOf(tenant), started.GetConfigurationTypes()); len(types) == 0 {
				return nil, nothing
			}
			return types, nil
		}
		result := event.GetConfigurationCompleted().GetResult()
		switch result.GetOutcome() {
		case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE,
			understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED,
			understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP:
			types = append(types, result.GetConfigurationType())
		}
	}
	if !committed {
		// It ended before it began: what was asked for is still asked for.
		return sync.GetSpec().GetConfigurationTypes(), nil
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
	if err := e.queue.reserve(); err != nil {
		return nil, err
	}
	// A client that goes away now has a sync or none, and not half of one.
	accepted, created, err := e.syncs.Create(context.WithoutCancel(ctx), port.CreateRequest{
		Sync: sync, Tenant: tenantName, RequestID: requestID, Digest: digest,
	})
	if err != nil || !created {
		e.queue.release()
		return accepted, err
	}
	e.queue.add(accepted.GetName())
	e.logger.Info("sync accepted", "sync", accepted.GetName(), "trigger", accepted.GetTrigger())
	return accepted, nil
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

// Cancel implements [Service].
func (e *Engine) Cancel(ctx context.Context, name string) (*understudyv1.Sync, error) {
	sync, err := e.syncs.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	switch state := sync.GetState(); {
	case state == understudyv1.SyncState_SYNC_STATE_CANCELLED, state == understudyv1.SyncState_SYNC_STATE_CANCELLING:
		return sync, nil
	case terminal(state):
		return nil, &port.SyncFinishedError{Sync: name, State: state}
	}
	if e.queue.remove(name) {
		if err := e.cancelQueued(ctx, name); err != nil {
			e.queue.restore(name) // or its tenant would wait for a sync that nobody runs
			return nil, err
		}
		return e.syncs.Get(ctx, name)
	}
	return e.cancelRunning(ctx, name)
}

// cancelQueued ends a sync that was taken out of the queue.
func (e *Engine) cancelQueued(ctx context.Context, name string) error {
	log, err := e.syncs.Open(ctx, name)
	if err != nil {
		return err
	}
	return e.end(context.WithoutCancel(ctx), log, understudyv1.SyncState_SYNC_STATE_CANCELLED, newStatus(
		code.Code_CANCELLED, understudyv1.ErrorReason_ERROR_REASON_SYNC_CANCELLED,
		"The sync was cancelled before it began. The previous backup is unchanged.", map[string]string{"sync": name}))
}

// cancelRunning cancels a sync that a worker has, or is about to have.
func (e *Engine) cancelRunning(ctx context.Context, name string) (*understudyv1.Sync, error) {
	e.mu.Lock()
	r := e.running[name]
	if r == nil {
		e.cancelled[name] = true
	}
	e.mu.Unlock()
	began := false
	if r != nil {
		cancelled, err := r.requestCancel()
		if err != nil {
			return nil, err
		}
		began = !cancelled
	} else if err := e.announceCancel(ctx, name); err != nil {
		return nil, err
	}
	sync, err := e.syncs.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	over := terminal(sync.GetState())
	if over {
		e.mu.Lock()
		delete(e.cancelled, name) // no worker will
		e.mu.Unlock()
	}
	if sync.GetState() != understudyv1.SyncState_SYNC_STATE_CANCELLED && (over || began) {
		return nil, &port.SyncFinishedError{Sync: name, State: sync.GetState()}
	}
	return sync, nil
}

// announceCancel records that a sync is being cancelled that nobody runs yet, or
// any more: whoever takes it, or ends it, sees that.
func (e *Engine) announceCancel(ctx context.Context, name string) error {
	log, err := e.syncs.Open(ctx, name)
	if fenced := (*port.FencedError)(nil); errors.As(err, &fenced) {
		return nil // it finished meanwhile
	}
	if err != nil {
		return err
	}
	events := &recorder{log: log, fail: func(error) {}}
	err = events.state(ctx, &understudyv1.StateChanged{State: understudyv1.SyncState_SYNC_STATE_CANCELLING})
	if fenced := (*port.FencedError)(nil); errors.As(err, &fenced) {
		return nil
	}
	return err
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
