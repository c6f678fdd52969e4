package finder

import (
	"math"
	"slices"

	"culprit/internal/proc"
)

// Owner says whose processes are captured: those of a user in one container. The same UID in another
// container, or on the host, is somebody else.
type Owner struct {
	UID       uint32 // or AnyUser
	Container string // the id of a container, Host or Anywhere
}

const (
	// AnyUser stands for all users of a container. The kernel gives it to nobody (man 2 setreuid).
	AnyUser = math.MaxUint32
	// Host is where a process is that is in no container.
	Host = ""
	// Anywhere is the host and every container. No cgroup of a container has this name.
	Anywhere = "*"
)

// InContainer reports whether the processes of one container are meant.
func (o Owner) InContainer() bool { return o.Container != Host && o.Container != Anywhere }

// mayOwn reports whether processes with this UID can be meant, as far as that tells.
func (o Owner) mayOwn(uid uint32) bool { return o.UID == AnyUser || o.UID == uid }

// ofUser reports whether a process belongs to the user.
func (o Owner) ofUser(status proc.Status) bool { return o.UID == AnyUser || status.Of(o.UID) }

// Covers reports whether a process is there that is within these containers, of which the outermost is
// the first. A container covers those that were made inside it: otherwise its processes could
// leave it by making one.
func (o Owner) Covers(within []string) bool {
	switch o.Container {
	case Anywhere:
		return true
	case Host:
		return len(within) == 0
	}
	return slices.Contains(within, o.Container)
}
