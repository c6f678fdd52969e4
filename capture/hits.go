package capture

import (
	"log/slog"
	"strconv"
	"time"

	"culprit/internal/config"
	"culprit/internal/event"
)

// maxCaptures bounds the captures that run at once. Some users may use many UIDs (man 5
// subuid), and must not make us keep a capture for each. There are far fewer straces.
const maxCaptures = 500

// Hit tells the controller of a hit. It waits only while more than a thousand messages
// are waiting. Nobody may change the hit any more.
func (c *Controller) Hit(h *event.Hit) { c.send(hit{h}) }

// hit is a hit of the trigger.
type hit struct{ *event.Hit }

// handle starts the capture of a hit's user, or intensifies it. A copy of the hit, which
// names the capture, goes to the recorder and to the tracers: nobody changes that either.
func (m hit) handle(c *Controller) {
	h, now := *m.Hit, time.Now()
	h.Culprit.NoCapture, h.Culprit.ForwardedFrom = c.noCapture(&h)
	if h.Culprit.NoCapture == nil {
		cam := c.campaign(h.User, now)
		h.Culprit.Capture = &event.Reference{ID: cam.doc.Event.ID}
		c.join(cam, &h, now)
	}
	c.recorder.Hit(&h)
}

// campaign returns the campaign of a user, which it makes if there is none.
func (c *Controller) campaign(user *event.User, now time.Time) *campaign {
	uid := user.UID()
	cam := c.campaigns[uid]
	if cam == nil {
		scope := c.guard.Load().scope(uid, c.cfg.Scope)
		cam = newCampaign(event.User{ID: user.ID, Name: user.Name}, scope, c.cfg.Levels, c.cfg.Linger, now)
		c.campaigns[uid] = cam
	}
	return cam
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
	if isFirst || raised || newSender {
		c.aim()
	}
}

// noCapture says why a hit neither starts nor joins a capture, or nil. If a resolver
// forwarded the question of another hit, it says which, as far as that is known.
func (c *Controller) noCapture(h *event.Hit) (why *event.NoCapture, from *event.Reference) {
	if c.stopping {
		return &event.NoCapture{Code: event.NoCaptureStopping}, nil
	}
	guard := c.guard.Load()
	if resolver := guard.resolver(h); resolver != "" {
		return c.lookups.forwarded(h, resolver)
	}
	c.lookups.ask(h)
	if h.User == nil {
		return &event.NoCapture{Code: event.NoCaptureNoUID}, nil
	}
	uid := h.User.UID()
	switch isCaptured := c.campaigns[uid] != nil; {
	case guard.ForbidsUser(uid):
		return &event.NoCapture{Code: event.NoCaptureNeverUsers}, nil
	case !isCaptured && len(c.campaigns) >= maxCaptures:
		return &event.NoCapture{Code: event.NoCaptureTooMany, Detail: strconv.Itoa(maxCaptures)}, nil
	case !isCaptured && guard.scope(uid, c.cfg.Scope) == config.ScopeProcess && len(guard.senders(h)) == 0:
		return &event.NoCapture{Code: event.NoCaptureNoProcess}, nil
	}
	return nil, nil
}
