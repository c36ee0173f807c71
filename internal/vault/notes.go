package vault

import (
	"encoding/json"
	"errors"
	"os"
	"time"

	"understudy.internal/internal/port"
)

// notes are what the vault remembers beside the repository and not in it, because
// it changes with every sync, or must outlive the branch. They only inform: without
// them nothing of the backup is lost.
type notes struct {
	// Commit is the last commit of this vault.
	Commit string `json:"commit,omitempty"`
	// LastComplete says when each type was last read completely.
	LastComplete map[string]time.Time `json:"last_complete"`
}

const notesFile = "understudy-notes.json"

func (v *Vault) readNotes() (notes, error) {
	read := notes{LastComplete: map[string]time.Time{}}
	content, err := os.ReadFile(v.path(notesFile))
	if errors.Is(err, os.ErrNotExist) {
		return read, nil
	}
	if err != nil {
		return read, &port.StorageError{Err: err}
	}
	if err := json.Unmarshal(content, &read); err != nil {
		v.logger.Warn("the notes of the vault are damaged and begin anew", "error", err)
		return notes{LastComplete: map[string]time.Time{}}, nil
	}
	if read.LastComplete == nil {
		read.LastComplete = map[string]time.Time{}
	}
	return read, nil
}

// writeNotes logs its failure, and does not wait for the disk: what it notes is of
// use and not needed.
func (v *Vault) writeNotes(n notes) {
	content, err := json.Marshal(n)
	if err == nil {
		err = writeFile(v.path(notesFile), 0o600, append(content, '\n'), false)
	}
	if err != nil {
		v.logger.Warn("writing the notes of the vault failed; the backup is whole", "error", err)
	}
}
