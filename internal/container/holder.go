package container

import (
	"path/filepath"
	"strings"
)

// Holder returns the first of cgroups of v2, each in the one before, in which somebody else than root of the host may make others: it is
// a container's, or the directory is another user's. It is 0 if none is, or nobody knows. The innermost may be gone.
func (c *Containers) Holder(ids []uint64) uint64 {
	if c == nil {
		return 0
	}
	for deepest := len(ids) - 1; deepest >= 0; deepest-- {
		path, err := c.cgroups.path(ids[deepest])
		if err != nil {
			continue
		}
		names := strings.Split(strings.Trim(path, "/"), "/")
		for i := range min(len(names), len(ids)) {
			prefix := "/" + strings.Join(names[:i+1], "/")
			if !isRoots(filepath.Join(c.cgroups[""], prefix)) || len(c.within("0::"+prefix+"\n")) > 0 {
				return ids[i]
			}
		}
		return 0
	}
	return 0
}
