package bundles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/evidence/dossier/bundle"
	"culprit/evidence/tracefile"
	"culprit/fleet"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/text"
)

const askEvery = time.Second

// A Fetcher gets bundles from the fleet into a mirror.
type Fetcher struct {
	Conn *fleet.Conn
	Dir  string        // of the mirror
	Free int64         // bytes that stay free on its disk
	Max  int64         // bytes of a bundle, packed and unpacked; more is not taken, whatever its host says
	Wait time.Duration // for a host to give its bundle, and for servers that are away meanwhile
	// Told is what happens, for people.
	Told func(format string, args ...any)
}

// Got says what Fetch brought.
type Got struct {
	Files  int   // traces, packets and executables
	Bytes  int64 // of the bundle
	Digest string
}

// Fetch gets the bundle of a capture, asks the host for it if it is not there, and puts its traces into the mirror. What was
// interrupted goes on where it was.
func (f *Fetcher) Fetch(ctx context.Context, r *catalogue.Reader, c *event.Capture) (got Got, err error) {
	if c.Host == nil || c.Host.Name == "" {
		return got, errors.New("the capture is not of a fleet: its traces are here already")
	}
	d, err := directory.Open(f.Dir)
	if err != nil {
		return got, err
	}
	defer d.Close()
	o, err := f.await(ctx, c)
	if err != nil {
		return got, err
	}
	p, err := openPart(d, c.Event.ID)
	if err != nil {
		return got, fmt.Errorf("fetch %s: %w", c.Event.ID, err)
	}
	defer p.close()
	if err := f.download(ctx, o, d, p); err != nil {
		if p.head.Size == 0 {
			err = errors.Join(err, p.remove())
		}
		return got, err
	}
	got.Bytes = o.Size
	if got.Digest, err = f.check(c, p); err != nil {
		return got, errors.Join(err, p.remove())
	}
	if got.Files, err = f.unpack(r, d, c, p.content()); err != nil {
		return got, err
	}
	return got, p.remove()
}

// check verifies that what has come is the bundle of a capture. It returns the SHA-256 of its manifest.
func (f *Fetcher) check(c *event.Capture, p *part) (digest string, err error) {
	checked, err := bundle.VerifyWithin(p.content(), f.Max)
	switch {
	case errors.Is(err, bundle.ErrTooLarge):
		return "", f.tooLarge("what is in the bundle of " + c.Event.ID + " is larger")
	case err != nil:
		return "", err
	case !checked.OK():
		return "", fmt.Errorf("the bundle of %s is not intact: %s", c.Event.ID, checked.Problems[0])
	case checked.Manifest.Capture.Event.ID != c.Event.ID:
		return "", fmt.Errorf("the bundle that host %s gives for capture %s is of another", text.Escape(c.Host.Name), c.Event.ID)
	}
	return checked.Digest, nil
}

// tooLarge says what to do about a bundle that is larger than was said.
func (f *Fetcher) tooLarge(what string) error {
	return fmt.Errorf("%w: %s, and at most %s is taken: if you trust its host with more, say so with --max-size", fleet.ErrTooLarge, what, text.Size(f.Max))
}

// room is how many bytes may come into the mirror.
func (f *Fetcher) room(d *directory.Directory) (int64, error) {
	free, err := d.Free()
	return max(0, free-f.Free), err
}

// noRoom says what to do if there are too few.
func (f *Fetcher) noRoom(what string, room int64) error {
	return fmt.Errorf("%s needs more than the %s that the disk of the mirror %s has above evidence.min_free (%s): free some space, or give --mirror on a larger disk",
		what, text.Size(room), f.Dir, text.Size(f.Free))
}

// await finds the bundle, and asks for it if it is not there.
func (f *Fetcher) await(ctx context.Context, c *event.Capture) (fleet.Object, error) {
	host, id := c.Host.Name, c.Event.ID
	failed := func(format string, args ...any) (fleet.Object, error) {
		return fleet.Object{}, fmt.Errorf(format, args...)
	}
	asked, request := time.Time{}, uint64(0)
	for {
		o, err := f.Conn.Find(ctx, f.Conn.Name.Bundles(host), ObjectName(id))
		if err == nil || !errors.Is(err, fleet.ErrNotFound) {
			return o, err
		}
		s, err := f.status(ctx, host)
		if err != nil {
			return o, err
		}
		switch {
		case s.Bundles == config.BundlesNever:
			return failed("host %s never gives bundles (fleet.bundles in its configuration): look at the capture there, with culprit show %s", host, id)
		case asked.IsZero():
			if request, err = f.Conn.Ask(ctx, host, id); err != nil {
				return o, err
			}
			asked = time.Now()
			f.Told("host %s was asked for the bundle of %s; it gives captures that have ended\n", host, id)
		default:
			for _, one := range s.Refused {
				if one.Capture == id && one.Request >= request { // not one of before
					return failed("host %s does not give the bundle: %s", host, text.Clip(text.Escape(one.Why), 300))
				}
			}
		}
		if time.Since(asked) > f.Wait {
			state := s.State(time.Now())
			return failed("the bundle did not come within %s: host %s is %s. It stays asked for: fetch again later, or --wait longer", f.Wait, host, text.Escape(state))
		}
		select {
		case <-time.After(askEvery):
		case <-ctx.Done():
			return o, ctx.Err()
		}
	}
}

// status is what a host says of itself.
func (f *Fetcher) status(ctx context.Context, host string) (fleet.Status, error) {
	hosts := f.Conn.Name.Hosts()
	m, err := f.Conn.Last(ctx, hosts.Stream(), hosts.Subject(fleet.Token(host)))
	if errors.Is(err, fleet.ErrNotFound) {
		return fleet.Status{}, fmt.Errorf("host %s is no member of the fleet now, so nobody can give its bundle", host)
	}
	if err != nil {
		return fleet.Status{}, err
	}
	return fleet.ReadStatus(host, m.Data)
}

// unpack puts the files of a verified bundle into the mirror: traces that the mirror knows to be of the capture, its
// packets, and executables. It returns how many.
func (f *Fetcher) unpack(r *catalogue.Reader, d *directory.Directory, c *event.Capture, from io.Reader) (n int, err error) {
	known := map[string]bool{}
	for t, err := range r.Traces(catalogue.Filter{Capture: c.Event.ID, NoProofs: true}) {
		if err != nil {
			return 0, err
		}
		known[filepath.Base(t.File.Path)] = true
	}
	room, err := f.room(d)
	if err != nil {
		return 0, err
	}
	left := bounded{left: room, err: f.noRoom("what is in the bundle of "+c.Event.ID, room)}
	into := filepath.Join(directory.Traces, c.Event.ID)
	if err := d.Root().MkdirAll(into, 0o700); err != nil {
		return 0, err
	}
	err = bundle.Unpack(from, func(name string, content io.Reader) error {
		base := path.Base(name)
		left.r = content
		switch in := path.Dir(name); {
		case in == "traces" && known[strings.TrimSuffix(base, tracefile.Suffix)], name == directory.Packets:
			n++
			return d.Put(filepath.Join(into, base), tracefile.Unfinished, func(w io.Writer) error {
				_, err := io.Copy(w, &left)
				return err
			})
		case in == directory.Executables:
			n++
			_, _, err := d.KeepExecutable(&left, f.Max)
			return err
		}
		return nil // documents and reports: the mirror has the documents
	})
	return n, err
}

// bounded reads from one reader after the other, and fails once it has read more than there is room for.
type bounded struct {
	r    io.Reader
	left int64
	err  error
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, b.err
	}
	return n, err
}
