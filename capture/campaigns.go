package capture

import (
	"slices"
	"strconv"

	"culprit/capture/finder"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// campaigns are the captures that run. Whoever makes containers can be one user in many of them, or many
// users in one. So all containers together leave a quarter of captures and straces to the host, and one
// user in all containers, or all users of one, have a share of these.
type campaigns map[Owner]*campaign

// maxCaptures bounds the captures that run at once. Some users may use many UIDs (man 5
// subuid), and must not make us keep a capture for each. There are far fewer straces.
const maxCaptures = 500

// of returns the campaign that a process of a user belongs to which is within these containers, or nil.
// The innermost counts.
func (cs campaigns) of(uid uint32, within []string) *campaign {
	for _, id := range slices.Backward(within) {
		for _, user := range []uint32{uid, finder.AnyUser} {
			if cam := cs[Owner{UID: user, Container: id}]; cam != nil {
				return cam
			}
		}
	}
	if cam := cs[Owner{UID: uid, Container: finder.Host}]; cam != nil && len(within) == 0 {
		return cam
	}
	return cs[Owner{UID: uid, Container: finder.Anywhere}]
}

// ofHit returns the campaign that a hit joins, or nil. Whose sender was not looked at, may have been in
// a container: without a capture of all of them, that of the host is the best guess.
func (cs campaigns) ofHit(h *event.Hit) *campaign {
	uid := h.Owner().UID()
	if !h.Located {
		host := cs[Owner{UID: uid, Container: finder.Host}]
		if cam := cs[Owner{UID: uid, Container: finder.Anywhere}]; cam != nil {
			return cam
		}
		return host
	}
	return cs.of(uid, h.Within)
}

// tracing returns the campaign that traces a process, or nil. A process can belong to several: to that of its
// user anywhere, too, or to that of a process of root's from which it descends.
func (cs campaigns) tracing(id proc.ID) *campaign {
	for _, cam := range cs {
		if cam.traces[id] != nil {
			return cam
		}
	}
	return nil
}

// refuses says why no campaign may be added, or nil.
func (cs campaigns) refuses(owner Owner) *event.NoCapture {
	if len(cs) >= maxCaptures {
		return &event.NoCapture{Code: event.NoCaptureTooMany, Detail: strconv.Itoa(maxCaptures)}
	}
	one := func(*campaign) int { return 1 }
	if most, full := cs.share(owner, maxCaptures, one); full {
		return &event.NoCapture{Code: event.NoCaptureContainers, Detail: strconv.Itoa(most)}
	}
	return nil
}

// hasRoom reports whether a campaign may start a strace, of which so many run.
func (cs campaigns) hasRoom(cam *campaign, running, concurrent int) bool {
	straces := func(cam *campaign) int { return len(cam.traces) }
	// One capture leaves a quarter of the straces to others.
	if running >= concurrent || straces(cam) >= concurrent-concurrent/4 {
		return false
	}
	_, full := cs.share(cam.owner, concurrent, straces)
	return !full
}

// share reports whether campaigns in containers use up what is theirs of all, and how much that is:
// those of all containers three quarters; those of one container, or of one user in any, a half.
func (cs campaigns) share(owner Owner, all int, uses func(*campaign) int) (most int, full bool) {
	if !owner.InContainer() {
		return 0, false
	}
	together, user, container := 0, 0, 0
	for o, cam := range cs {
		if !o.InContainer() {
			continue
		}
		n := uses(cam)
		together += n
		if o.UID == owner.UID && o.UID != finder.AnyUser {
			user += n
		}
		if o.Container == owner.Container {
			container += n
		}
	}
	half := max(1, all/2)
	if most = half; user >= most || container >= most {
		return most, true
	}
	most = max(1, all-all/4)
	return most, together >= most
}
