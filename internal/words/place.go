package words

import (
	"strings"

	"culprit/internal/event"
)

// Place says in which container a process is, in one word for a table: "web-1",
// "web/shop-7d9f/cart" in a pod, "cart in node-1" in another container, "-" on the host. An id that nobody vouches for ends in "?".
func Place(p *event.Place) string {
	if p.Container == nil {
		return "-"
	}
	name := p.Container.Label()
	if pod := pod(p.Orchestrator); pod != "" {
		name = pod + "/" + name
	}
	if p.Container.Claimed {
		name += "?"
	}
	for outer := p.Container.Parent; outer != nil; outer = outer.Parent {
		name += " in " + outer.Label()
	}
	return name
}

// Container says all that is known of the container of a process: "cart, id 0123456789ab…, image
// quay.io/cart:3, pod web/shop-7d9f, cri-o".
func Container(p *event.Place) string {
	c := p.Container
	if c == nil {
		return "none"
	}
	var parts []string
	if c.Name != "" && c.Name != c.ID {
		parts = append(parts, c.Name)
	}
	parts = append(parts, "id "+c.ID)
	if c.Image != nil {
		parts = append(parts, "image "+c.Image.Name)
	}
	if pod := pod(p.Orchestrator); pod != "" {
		parts = append(parts, "pod "+pod)
	}
	if c.Runtime != "" {
		parts = append(parts, c.Runtime)
	}
	if c.Claimed {
		parts = append(parts, "claimed by the name of a cgroup: no runtime of this machine is known to have it")
	}
	if c.Parent != nil {
		parts = append(parts, "in the container "+Container(&event.Place{Container: c.Parent}))
	}
	return strings.Join(parts, ", ")
}

// pod names a pod: "web/shop-7d9f", or its id.
func pod(o *event.Orchestrator) string {
	switch {
	case o == nil:
		return ""
	case o.Resource.Name == "":
		return o.Resource.ID
	case o.Namespace == "":
		return o.Resource.Name
	}
	return o.Namespace + "/" + o.Resource.Name
}
