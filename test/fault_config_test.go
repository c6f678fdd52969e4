package test

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// A configuration that is gone, or cannot be read, when it is to be read again changes
// nothing.
func TestReloadUnreadable(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(longWindow)
	installed := h.firewall()
	for i, harm := range []func() error{
		func() error { return os.Remove(d.config) },
		func() error { return os.Mkdir(d.config, 0o755) },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		d.signal(syscall.SIGHUP)
		eventually(t, "it says that the configuration was refused", func() error {
			if strings.Count(d.output.String(), `"message":"`+refused+`"`) <= i {
				return os.ErrNotExist
			}
			return nil
		})
	}
	h.unchanged(installed, "after a configuration that cannot be read")
	s := h.sender(newUID())
	s.ask("x.badzone.test")
	traced(t, s.process)
	d.stop()
}
