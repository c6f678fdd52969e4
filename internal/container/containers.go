// Package container tells which container a process is in: its id from the cgroup that the process is
// in, its name, image and pod from the files that runtimes leave on the host. It asks no runtime.
//
// The name of a cgroup alone proves nothing, as a user to whom systemd delegated a part of the
// hierarchy can make a cgroup with any name in it. See [Identity.Known].
package container

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"culprit/internal/event"
	"culprit/internal/patience"
	"culprit/internal/proc"
)

// Identity says which container a process is in.
type Identity struct {
	// ID is the runtime's id of the innermost container. It is empty if the process is in none.
	ID string
	// Known says that the id can be relied upon: a file of the runtime on the host has it, or only
	// root can have made the cgroup. Otherwise the owner of the process may have made it up.
	Known bool
}

// Trusted returns the id if it can be relied upon, otherwise "", as for a process of the host.
func (i Identity) Trusted() string {
	if !i.Known {
		return ""
	}
	return i.ID
}

// Containers finds containers and caches what it found. It is safe for concurrent use. A nil
// one finds none.
type Containers struct {
	fs      proc.FS
	roots   []string // where the host's files are, the first that has one wins
	cgroups mounts
	home    func(uid uint32) string
	now     func() time.Time

	patience patience.Patience

	mu    sync.Mutex
	known map[string]found // by the text of /proc/PID/cgroup
	names map[insider]string
}

// found is what was found for the processes of a cgroup.
type found struct {
	identity Identity
	place    event.Place
	filed    bool // a file of the runtime knows the container
	until    time.Time
}

const (
	// maxKnown bounds the cache. What is found again costs two or three milliseconds.
	maxKnown = 4096
	// knownFor is how long the details of a container are kept: it may be renamed.
	knownFor = time.Minute
	// claimedFor is how long is remembered that no file knows an id: a runtime may be about to
	// write one.
	claimedFor = time.Second
)

// New makes a finder for the processes of a proc file system.
func New(fs proc.FS) *Containers {
	return &Containers{fs: fs, roots: hostRoots(), cgroups: findMounts(fs), home: homeOf, now: time.Now, known: map[string]found{}, names: map[insider]string{}}
}

// Identity returns the container of a process. It reads one file of the process, and for a container
// that it has not seen lately some of the host.
func (c *Containers) Identity(pid int) Identity { return c.find(pid).identity }

// Of describes where a process runs. It is empty if that is no container.
func (c *Containers) Of(pid int) event.Place { return c.find(pid).place }

func (c *Containers) find(pid int) found {
	if c == nil {
		return found{}
	}
	text, err := c.fs.Cgroup(pid)
	if err != nil {
		return found{}
	}
	return c.findBy(text, pid)
}

// findBy finds the container by the text of /proc/PID/cgroup. The process is needed for names of containers in containers; 0: it is
// gone.
func (c *Containers) findBy(text string, pid int) found {
	if f, ok := c.remembered(text); ok {
		return f
	}
	if f, ok := c.remembered(c.key(text, pid)); ok {
		return f
	}
	claims := parse(text)
	if len(claims) == 0 {
		return found{}
	}
	// A user's home may be on a server that has gone, and so may be the files in a container.
	of, limit := "root", patience.Long
	if uid, ok := userOf(claims[0].path); ok {
		of, limit = fmt.Sprint("user ", uid), patience.Short
	} else if outer := claims[0].around(claims); len(outer) > 0 { // by the outermost, which can make up the others
		of, limit = "container "+outer[len(outer)-1].id, patience.Short
	}
	inner := func(outer, of claim) (details, bool) { return c.inContainer(pid, outer, of) }
	looked := make(chan found, 1)
	if done := c.patience.Wait(of, limit, func() {
		f := c.look(claims, c.details, inner)
		c.remember(c.key(text, pid), f) // the process may have ended meanwhile
		looked <- f
	}); done {
		return <-looked
	}
	return c.look(claims, nobody, nobodyThere)
}

// key returns by what is remembered what is found for the processes of a cgroup. What is found without one of them, or through one
// that has ended, may lack a name, and is nothing that the others are told.
func (c *Containers) key(text string, pid int) string {
	if pid > 0 {
		// Its last line is that of v2, which may be all that is known.
		if is, err := c.fs.Cgroup(pid); err == nil && strings.HasSuffix(is, text) {
			return text
		}
	}
	return withoutProcess + text
}

// withoutProcess is before the text of a cgroup of which no process was known.
const withoutProcess = "without a process "

// remembered returns what was found not long ago.
func (c *Containers) remembered(key string) (f found, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok = c.known[key]
	return f, ok && c.now().Before(f.until)
}

func (c *Containers) remember(key string, f found) {
	f.until = c.now().Add(knownFor)
	if !f.identity.Known || !f.filed {
		f.until = c.now().Add(claimedFor)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxKnown {
		clear(c.known)
	}
	c.known[key] = f
}

// look takes the innermost claim that holds. If none does, the innermost is still told, as a claim. What is known of a container
// in another one is in the files of that one.
func (c *Containers) look(claims []claim, ask source, inner innerSource) found {
	var unproven *claim
	for i, claim := range claims {
		maker := c.cgroups.maker(claim)
		_, rootless := userOf(claim.path)
		// Root's runtime has made no container where a user can have made one of the same id.
		if maker != anotherUser || rootless {
			var d details
			var known bool
			around := claim.around(claims)
			outer := c.look(around, ask, nobodyThere)
			if outer.identity.Known {
				d, known = inner(around[0], claim)
			} else {
				d, known = ask(claim)
			}
			if known || maker == onlyRoot && !claim.weak {
				p := place(claim, d, false)
				if outer.identity.Known {
					p.Container.Parent = outer.place.Container
				}
				return found{identity: Identity{claim.id, true}, place: p, filed: known}
			}
		}
		if !claim.weak && unproven == nil {
			unproven = &claims[i]
		}
	}
	if unproven == nil {
		return found{}
	}
	return found{identity: Identity{unproven.id, false}, place: place(*unproven, details{}, true)}
}

// place describes a container in the fields of ECS.
func place(c claim, d details, claimed bool) event.Place {
	p := event.Place{Container: &event.Container{ID: event.Cut(c.id, maxText), Runtime: d.runtime, Claimed: claimed}}
	if p.Container.Runtime == "" {
		p.Container.Runtime = c.runtime
	}
	p.Container.Name = event.Cut(d.name, maxText)
	if d.image != "" {
		p.Container.Image = &event.Image{Name: event.Cut(d.image, maxText)}
	}
	if c.pod != "" && !claimed && d.podUID == "" {
		d.podUID = c.pod
	}
	if d.pod == "" && d.podUID == "" {
		return p
	}
	p.Orchestrator = &event.Orchestrator{
		Namespace: event.Cut(d.namespace, maxText),
		Resource:  event.Resource{Type: "pod", Name: event.Cut(d.pod, maxText), ID: event.Cut(d.podUID, maxText)},
	}
	if d.kubernetes || c.pod != "" {
		p.Orchestrator.Type = "kubernetes"
	}
	return p
}

// maxText bounds a name, in bytes of JSON.
const maxText = 256
