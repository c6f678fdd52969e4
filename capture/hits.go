package capture

import (
	"log/slog"
	"time"

	"culprit/capture/finder"
	"culprit/internal/config"
	"culprit/internal/event"
)

// Hit tells the controller of a hit. It waits only while more than a thousand messages
// are waiting. Nobody may change the hit any more.
func (c *Controller) Hit(h *event.Hit) { c.send(hit{h}) }

// hit is a hit of the trigger.
type hit struct{ *event.Hit }

// handle starts the capture of a hit's user, or intensifies it. A copy of the hit, which
// names the capture, goes to the recorder and to the tracers: nobody changes that either.
func (m hit) handle(c *Controller) {
	h, now := *m.Hit, time.Now()
	h.Culprit.NoCapture = c.noCapture(&h)
	if h.Culprit.NoCapture == nil {
		cam := c.campaign(&h, now)
		h.Culprit.Capture = &event.Reference{ID: cam.doc.Event.ID}
		c.join(cam, &h, now)
		c.frozen(cam.owner, &h)
	} else {
		c.letGo(h.Hold)
	}
	c.recorder.Hit(&h)
}

// campaign returns the campaign of a hit's sender, which it makes if there is none.
func (c *Controller) campaign(h *event.Hit, now time.Time) *campaign {
	cam := c.campaigns.ofHit(h)
	if cam == nil {
		user := h.Owner()
		owner, scope := c.captures(h)
		cam = newCampaign(owner, event.User{ID: user.ID, Name: user.Name}, scope, c.cfg.Levels, c.cfg.Linger, now)
		if owner.InContainer() {
			cam.doc.Place, cam.doc.User.Inside = placeOf(owner, h), user.Inside
		}
		c.campaigns[owner] = cam
	}
	return cam
}

// placeOf describes a captured container. The hit may be of a container that its sender claims to be inside
// that one.
func placeOf(owner Owner, h *event.Hit) event.Place {
	if h.Container != nil && h.Container.ID == owner.Container {
		return h.Place
	}
	return event.Place{Container: &event.Container{ID: owner.Container}}
}

// captures says whose processes are captured for a hit that joins no campaign, and in which scope. If its
// sender was not looked at, they are those of the user wherever they are.
func (c *Controller) captures(h *event.Hit) (owner Owner, scope string) {
	owner = Owner{UID: h.Owner().UID(), Container: finder.Host}
	switch {
	case !h.Located:
		owner.Container = finder.Anywhere
	case len(h.Within) > 0:
		owner.Container = h.Within[len(h.Within)-1]
	}
	if scope = c.cfg.Scope; scope == config.ScopeContainer {
		if owner.InContainer() {
			owner.UID = finder.AnyUser
			return owner, scope
		}
		scope = config.ScopeUser
	}
	return owner, c.guard.Load().scope(owner.UID, scope)
}

// join adds a hit to a campaign.
func (c *Controller) join(cam *campaign, h *event.Hit, now time.Time) {
	isFirst := cam.senders.latest == nil
	raised, newSender := cam.hit(h, c.guard.Load().senders(h), now)
	cam.update(now)
	cam.dirty = true
	switch {
	case isFirst:
		c.recorder.Capture(cam.snapshot()) // before the hit, which names it
		c.meter.Started()
		c.log.Info("capture started", cam.logAttrs(), slog.String("rule", h.Rule.Name))
	case raised:
		c.log.Info("capture intensified", cam.logAttrs())
	}
	if isFirst || raised || newSender && cam.doc.Culprit.Scope == config.ScopeProcess {
		cam.search.scans++
	}
	if isFirst || raised {
		c.stops.Reconsider()
	}
	if isFirst || raised || newSender {
		c.aim()
	}
}

// noCapture says why a hit neither starts nor joins a capture, or nil. If a forwarder sent
// on what another hit asked, it says in the hit which, as far as that is known.
func (c *Controller) noCapture(h *event.Hit) *event.NoCapture {
	if c.stopping {
		return &event.NoCapture{Code: event.NoCaptureStopping}
	}
	guard := c.guard.Load()
	if f := guard.forwarder(h); f != nil {
		from, is := c.lookups.forwarded(h, f)
		switch {
		case from != nil:
			c.lookups.ask(h, from, from.captured) // of the next forwarder
			return &event.NoCapture{Code: event.NoCaptureForwarded, Detail: f.name}
		case is:
			return &event.NoCapture{Code: event.NoCaptureForwarded, Detail: f.name}
		case f.trusted:
			return &event.NoCapture{Code: event.NoCaptureResolver, Detail: f.name}
		}
	}
	why := c.refuses(h)
	c.lookups.ask(h, nil, why == nil)
	return why
}

// refuses says why the sender of a hit is not captured, or nil.
func (c *Controller) refuses(h *event.Hit) *event.NoCapture {
	guard := c.guard.Load()
	if h.Owner() == nil {
		return &event.NoCapture{Code: event.NoCaptureNoUID}
	}
	if guard.ForbidsUser(h.Owner().UID()) {
		return &event.NoCapture{Code: event.NoCaptureNeverUsers}
	}
	if c.campaigns.ofHit(h) != nil {
		return nil
	}
	owner, scope := c.captures(h)
	if why := c.campaigns.refuses(owner); why != nil {
		return why
	}
	if scope == config.ScopeProcess && len(guard.senders(h)) == 0 {
		return &event.NoCapture{Code: event.NoCaptureNoProcess}
	}
	return nil
}
