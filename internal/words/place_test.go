package words

import (
	"strings"
	"testing"

	"culprit/internal/event"
)

func TestPlace(t *testing.T) {
	t.Parallel()
	id := strings.Repeat("0123456789abcdef", 4)
	kubernetes := &event.Orchestrator{Type: "kubernetes", Namespace: "web", Resource: event.Resource{Type: "pod", Name: "shop-7d9f", ID: "12"}}
	for _, c := range []struct {
		place       event.Place
		short, long string
	}{
		{event.Place{}, "-", "none"},
		{event.Place{Container: &event.Container{ID: id, Name: "web-1", Runtime: "docker", Image: &event.Image{Name: "nginx"}}}, "web-1", "web-1, id " + id + ", image nginx, docker"},
		{event.Place{Container: &event.Container{ID: id, Name: "cart"}, Orchestrator: kubernetes}, "web/shop-7d9f/cart", "cart, id " + id + ", pod web/shop-7d9f"},
		{event.Place{Container: &event.Container{ID: id}, Orchestrator: &event.Orchestrator{Resource: event.Resource{ID: "12"}}}, "12/0123456789ab", "id " + id + ", pod 12"},
		{event.Place{Container: &event.Container{ID: "mail", Name: "mail", Runtime: "lxc"}}, "mail", "id mail, lxc"},
		{
			event.Place{Container: &event.Container{ID: id, Name: "cart", Parent: &event.Container{ID: "mail", Name: "mail", Runtime: "lxc"}}},
			"cart in mail", "cart, id " + id + ", in the container id mail, lxc",
		},
		{event.Place{Container: &event.Container{ID: id, Claimed: true}}, "0123456789ab?", "id " + id + ", claimed by the name of a cgroup: no runtime of this machine is known to have it"},
	} {
		if short, long := Place(&c.place), Container(&c.place); short != c.short || long != c.long {
			t.Errorf("got %q and %q, want %q and %q", short, long, c.short, c.long)
		}
	}
}
