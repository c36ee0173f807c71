package simulator

import "strings"

// pathPattern is a run of segments that a path must contain: `/v1.0/groups` is
// found in `/v1.0/groups/{id}/owners`, not in `/v1.0/groupSettings`. `*` stands for
// any one segment; a `$` at the end demands that the path ends there.
type pathPattern struct {
	segments []string
	toEnd    bool
}

func parsePattern(text string) pathPattern {
	text, toEnd := strings.CutSuffix(strings.ToLower(text), "$")
	text = strings.Trim(text, "/")
	if text == "" {
		return pathPattern{toEnd: toEnd}
	}
	return pathPattern{segments: strings.Split(text, "/"), toEnd: toEnd}
}

// in says whether a path has the pattern.
func (p pathPattern) in(version string, segments []string) bool {
	if len(p.segments) == 0 {
		return true
	}
	last := len(segments) + 1 - len(p.segments)
	first := 0
	if p.toEnd {
		first = max(last, 0)
	}
	for i := first; i <= last; i++ {
		if p.at(version, segments, i) {
			return true
		}
	}
	return false
}

func (p pathPattern) at(version string, segments []string, from int) bool {
	for j, want := range p.segments {
		have := version
		if from+j > 0 {
			have = segments[from+j-1]
		}
		if want != "*" && !strings.EqualFold(want, have) {
			return false
		}
	}
	return true
}
