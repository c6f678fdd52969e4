package container

import (
	"fmt"
	"strings"

	"culprit/internal/event"
)

// shortID is how many digits of an id runtimes print.
const shortID = 12

// Named finds a container by its name, its id or at least the first 12 digits of that, among those that
// processes are in for certain.
func (c *Containers) Named(name string) (event.Place, error) {
	pids, err := c.fs.PIDs()
	if err != nil {
		return event.Place{}, fmt.Errorf("look for the container %q: %w", name, err)
	}
	var found event.Place
	for _, pid := range pids {
		ids, _ := c.Within(pid)
		if len(ids) == 0 {
			continue
		}
		id := ids[len(ids)-1]
		place := c.Of(pid)
		if place.Container == nil || place.Container.ID != id {
			place = event.Place{Container: &event.Container{ID: id}}
		}
		is := id == name || place.Container.Name == name || len(name) >= shortID && strings.HasPrefix(id, name)
		switch {
		case !is:
		case found.Container == nil:
			found = place
		case found.Container.ID != id:
			return event.Place{}, fmt.Errorf("several containers are called %q: give the id of one, such as %s", name, id)
		}
	}
	if found.Container == nil {
		return event.Place{}, fmt.Errorf("no process is in a container %q whose cgroup belongs to root: see docs/limits.md", name)
	}
	return found, nil
}
