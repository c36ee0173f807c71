package edge

import (
	"context"
	"errors"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
)

// StartSync implements the contract.
func (s *service) StartSync(
	ctx context.Context, request *understudyv1.StartSyncRequest,
) (*understudyv1.StartSyncResponse, error) {
	sync, err := s.config.Engine.Start(ctx, engine.StartRequest{
		Tenant:    request.GetParent(),
		Spec:      request.GetSpec(),
		RequestID: request.GetRequestId(),
		Creator:   anonymous,
	})
	if err != nil {
		return nil, err
	}
	return &understudyv1.StartSyncResponse{Sync: sync}, nil
}

// RetrySync implements the contract.
func (s *service) RetrySync(
	ctx context.Context, request *understudyv1.RetrySyncRequest,
) (*understudyv1.RetrySyncResponse, error) {
	sync, err := s.config.Engine.Retry(ctx, engine.RetryRequest{
		Sync:        request.GetName(),
		Policy:      request.GetAuthenticationPolicy(),
		AllowPrompt: request.AllowPrompt,
		Comment:     request.GetComment(),
		RequestID:   request.GetRequestId(),
		Creator:     anonymous,
	})
	if err != nil {
		return nil, retryError(err)
	}
	return &understudyv1.RetrySyncResponse{Sync: sync}, nil
}

// retryError names the field of a retry that cannot be carried out: a retry has
// no spec of its own. What is wrong with the spec of the finished sync is about
// its name.
func retryError(err error) error {
	var spec *engine.SpecError
	if !errors.As(err, &spec) {
		return err
	}
	switch spec.Field {
	case "authentication_policy", "allow_prompt", "comment":
		return invalidField(spec.Field, spec.Description)
	default:
		return invalidField("name", "names a sync that cannot be carried out any more: "+spec.Error())
	}
}

// CancelSync implements the contract.
func (s *service) CancelSync(
	ctx context.Context, request *understudyv1.CancelSyncRequest,
) (*understudyv1.CancelSyncResponse, error) {
	sync, err := s.config.Engine.Cancel(ctx, request.GetName())
	if err != nil {
		return nil, err
	}
	return &understudyv1.CancelSyncResponse{Sync: sync}, nil
}

// GetSync implements the contract.
func (s *service) GetSync(
	ctx context.Context, request *understudyv1.GetSyncRequest,
) (*understudyv1.GetSyncResponse, error) {
	sync, err := s.config.Syncs.Get(ctx, request.GetName())
	if err != nil {
		return nil, err
	}
	return &understudyv1.GetSyncResponse{Sync: sync}, nil
}
