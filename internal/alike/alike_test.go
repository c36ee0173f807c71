package alike

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestClosest(t *testing.T) {
	t.Parallel()
	names := []string{"mfa-required", "mfa-enrollment-required", "sign-in-required", "throttled"}
	for _, c := range []struct {
		wanted string
		want   []string
	}{
		{"mfa-requird", []string{"mfa-required"}},
		{"MFA-REQUIRED", []string{"mfa-required"}},
		{"trottled", []string{"throttled"}},
		{"required", []string{"mfa-enrollment-required", "mfa-required", "sign-in-required"}},
		{"something-else", nil},
		{"", nil},
		{strings.Repeat("throttled", 1<<16), nil},
	} {
		if diff := cmp.Diff(c.want, Closest(c.wanted, names)); diff != "" {
			t.Errorf("Closest(%.40q) (-want +got):\n%s", c.wanted, diff)
		}
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"kitten", "sitting", 3}, {"same", "same", 0}} {
		if got := Distance(c.a, c.b); got != c.want {
			t.Errorf("Distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
