package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"understudy.internal/internal/durable"
	"understudy.internal/internal/port"
)

// lossesFile has the losses that a repair found, from before it changes anything until it
// is done. Half mended, a repository may not show them any more.
const lossesFile = "understudy-losses.json"

// noteLosses writes down what is lost, durably.
func (r *repairer) noteLosses() error {
	var losses []Fault
	for _, fault := range r.found.Faults {
		if fault.Loss {
			losses = append(losses, fault)
		}
	}
	if len(losses) == 0 {
		return nil
	}
	content, err := json.MarshalIndent(losses, "", "  ")
	if err != nil {
		return err
	}
	if err := writeDurably(r.vault.path(lossesFile), append(content, '\n')); err != nil {
		return err
	}
	return durable.SyncFolder(r.vault.config.Directory)
}

// interrupted looks for the losses that a repair found that was not done.
func (r *repairer) interrupted(context.Context) error {
	content, err := r.readFile(lossesFile)
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return &port.StorageError{Err: err}
	}
	var losses []Fault
	if err := json.Unmarshal(content, &losses); err != nil {
		what := fmt.Sprintf("a repair that was interrupted found losses, and its %s cannot be read: %v", lossesFile, err)
		losses = []Fault{{What: what, Loss: true}}
	}
	for _, loss := range losses {
		if !slices.ContainsFunc(r.found.Faults, func(f Fault) bool { return f.What == loss.What }) {
			r.found.Faults = append(r.found.Faults, loss)
		}
	}
	return nil
}

// forgetLosses ends the repair: what was lost is kept beside what was put aside.
func (r *repairer) forgetLosses() error {
	path := r.vault.path(lossesFile)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := r.putOneAside(path); err != nil {
		return fmt.Errorf("ending the repair: %w", err)
	}
	return durable.SyncFolder(filepath.Dir(path))
}
