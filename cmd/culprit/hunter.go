package main

import (
	"context"
	"log/slog"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"culprit/capture"
	"culprit/evidence"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/strace"
	"culprit/trigger"
)

// hunter joins the packages: hits go from the trigger to the controller, and what
// the controller says of them to the store and the log.
type hunter struct {
	*evidence.Store
	keeper     *evidence.Keeper
	controller *capture.Controller
	log        *slog.Logger
	limit      *rate.Limiter // of log lines about hits
	unlogged   int
	stamp      event.Capture // what each capture says of us and the machine
	numbers    numbers
}

func newHunter(store *evidence.Store, keeper *evidence.Keeper, log *slog.Logger, stamp event.Capture, n numbers) *hunter {
	const perSecond = 20
	return &hunter{Store: store, keeper: keeper, log: log, limit: rate.NewLimiter(perSecond, perSecond), stamp: stamp, numbers: n}
}

// obtained says how what is captured was obtained.
func obtained(c *config.Config, program strace.Program) event.Capture {
	s := event.Capture{Observer: &event.Observer{Product: "culprit", Version: version}, Host: new(event.Host)}
	s.Culprit.Strace = program.Version()
	text, _ := os.ReadFile(c.Path) // it could be read a moment ago
	s.Culprit.Config = string(text)
	s.Host.Hostname, _ = os.Hostname()
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		s.Host.OS.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return s
}

// Capture records a capture.
func (h *hunter) Capture(c event.Capture) {
	c.Observer, c.Host = h.stamp.Observer, h.stamp.Host
	c.Culprit.Strace, c.Culprit.Config = h.stamp.Culprit.Strace, h.stamp.Culprit.Config
	h.Store.Capture(c)
}

// fromTrigger is the hunter as the trigger sees it: a hit goes to the controller,
// which passes it on to [hunter.Hit] once it knows the hit's capture.
type fromTrigger struct{ *hunter }

func (h fromTrigger) Hit(hit *event.Hit) { h.controller.Hit(hit) }

// Hit records and logs a hit. The controller calls it, on its one goroutine.
func (h *hunter) Hit(hit *event.Hit) {
	h.numbers.Hit(hit.Rule.Name, hit.Culprit.Origin.Grade)
	h.Store.Hit(hit)
	if !h.limit.Allow() {
		h.unlogged++
		return
	}
	attrs := []any{
		slog.Group("event", "action", hit.Event.Action, "id", hit.Event.ID),
		slog.Group("rule", "name", hit.Rule.Name),
	}
	if hit.User != nil {
		attrs = append(attrs, slog.Group("user", "id", hit.User.ID, "name", hit.User.Name))
	}
	if hit.DNS != nil {
		attrs = append(attrs, slog.Group("dns", slog.Group("question", "name", hit.DNS.Question.Name, "type", hit.DNS.Question.Type)))
	}
	attrs = append(attrs,
		slog.Group("source", "ip", hit.Source.IP, "port", hit.Source.Port),
		slog.Group("destination", "ip", hit.Destination.IP, "port", hit.Destination.Port))
	if hit.Process != nil {
		attrs = append(attrs, slog.Group("process", "pid", hit.Process.PID, "command_line", hit.Process.CommandLine))
	}
	culprit := []any{slog.Group("origin", "grade", string(hit.Culprit.Origin.Grade))}
	if hit.Culprit.Capture != nil {
		culprit = append(culprit, "capture", hit.Culprit.Capture.ID)
	} else {
		culprit = append(culprit, "no_capture", hit.Culprit.NoCapture)
	}
	attrs = append(attrs, slog.Group("culprit", culprit...))
	if h.unlogged > 0 {
		attrs = append(attrs, slog.String("not_logged_before", strconv.Itoa(h.unlogged)+" hits"))
		h.unlogged = 0
	}
	h.log.Info("hit", attrs...)
}

// Room returns an error if the disk has none for another trace.
func (h *hunter) Room() error { return h.keeper.Room() }

// Lost records and logs a loss.
func (h *hunter) Lost(l event.Loss) {
	h.numbers.lost(l)
	h.Store.Lost(l)
	level := slog.LevelWarn
	if l.Culprit.What == trigger.LostUnverified {
		level = slog.LevelInfo // a verdict more than a loss
	}
	h.log.Log(context.Background(), level, "lost", slog.Group("culprit", "what", l.Culprit.What, "count", l.Culprit.Count))
}
