package main

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"culprit/evidence/catalogue"
	"culprit/internal/config"
	"culprit/internal/event"
)

// evidenceFlags say where the evidence is. Every command that reads it has them.
type evidenceFlags struct{ config, dir string }

func (f *evidenceFlags) add(cmd *cobra.Command) {
	configFlag(cmd, &f.config, "")
	cmd.Flags().StringVar(&f.dir, "evidence", "", "evidence `directory` (default: evidence.dir of the configuration)")
}

// A source is where a command reads evidence: that of this machine, or the mirror of a fleet.
type source interface {
	add(*cobra.Command)
	// read opens it. The caller closes the reader.
	read(*cobra.Command) (*catalogue.Reader, error)
}

func (f *evidenceFlags) read(*cobra.Command) (*catalogue.Reader, error) { return f.open() }

// open opens the evidence for reading.
func (f *evidenceFlags) open() (*catalogue.Reader, error) {
	dir, err := f.directory()
	if err != nil {
		return nil, err
	}
	return catalogue.OpenReader(dir)
}

// directory returns the named evidence directory, or that of the named or usual configuration,
// or the default.
func (f *evidenceFlags) directory() (string, error) {
	if f.dir != "" && f.config != "" {
		return "", usageError{errors.New("give --evidence or --config, not both")}
	}
	if f.dir != "" {
		return filepath.Abs(f.dir)
	}
	e, err := f.settings()
	return e.Dir, err
}

// settings returns the evidence section of the named or usual configuration, or the defaults.
// --evidence overrides its directory.
func (f *evidenceFlags) settings() (config.Evidence, error) {
	c, err := f.configuration()
	if err != nil {
		return config.Evidence{}, err
	}
	if f.dir != "" {
		if c.Evidence.Dir, err = filepath.Abs(f.dir); err != nil {
			return config.Evidence{}, err
		}
	}
	return c.Evidence, nil
}

// configuration returns the named or usual configuration, or the defaults if there is no usual one.
func (f *evidenceFlags) configuration() (config.Config, error) {
	c, err := config.LoadToLook(cmp.Or(f.config, config.DefaultPath))
	switch {
	case err == nil:
		return *c, nil
	case f.config == "" && errors.Is(err, fs.ErrNotExist):
		return config.Default(), nil
	}
	return config.Config{}, err
}

// openCapture opens the evidence and finds the capture with an id, or the one to which the hit
// or trace with that id belongs. The caller closes the reader.
func (f *evidenceFlags) openCapture(id string) (*catalogue.Reader, *event.Capture, error) {
	r, err := f.open()
	if err != nil {
		return nil, nil, err
	}
	c, err := r.CaptureOf(id)
	if err != nil {
		r.Close()
		return nil, nil, err
	}
	return r, c, nil
}
