package vault

import (
	"testing"
)

func TestSmoke(t *testing.T) {
	v := newVault(t, nil)
	s := runSync(t, v, night, whole(groups, documents("a", "b")), ended(apps, failed, documents("z")), whole(scripts, nil))
	t.Log(s.settled, s.snapshot)
	checkRepository(t, v)
	t.Log(files(t, v))
	t.Log(git(t, v.config.Directory, "log"))
}
