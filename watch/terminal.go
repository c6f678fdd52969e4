package watch

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// terminal shows our screen on a terminal until it is closed.
type terminal struct {
	out   *os.File
	keys  chan byte // typed keys; closed when the terminal has gone
	tty   *os.File
	saved *unix.Termios
	drawn []byte
}

// openTerminal takes over the terminal out. It returns nil if out is not a terminal, or one
// that cannot move its cursor.
func openTerminal(out io.Writer) *terminal {
	f, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "" {
		return nil
	}
	saved, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil
	}
	// Reading the terminal through a new descriptor can be ended by closing it, and does not
	// change the standard input that we share with a shell.
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY, 0)
	if err != nil {
		return nil
	}
	t := &terminal{out: f, keys: make(chan byte), tty: tty, saved: saved}
	raw := *saved
	raw.Lflag &^= unix.ICANON | unix.ECHO
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	raw.Cc[unix.VSUSP] = 0 // no Ctrl-Z, which would leave our screen to the shell
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &raw); err != nil {
		tty.Close()
		return nil
	}
	go t.read()
	// The alternate screen, no cursor, and no wrapping of lines that are too wide: some
	// characters take two columns.
	fmt.Fprint(f, "\x1b[?1049h\x1b[?25l\x1b[?7l")
	return t
}

// read passes keys on until the terminal is closed.
func (t *terminal) read() {
	defer close(t.keys)
	b := make([]byte, 1)
	for {
		if _, err := t.tty.Read(b); err != nil {
			return
		}
		t.keys <- b[0]
	}
}

// close leaves the terminal as it was.
func (t *terminal) close() {
	t.tty.Close()
	for range t.keys { // until the reader has ended
	}
	fmt.Fprint(t.out, "\x1b[?7h\x1b[?25h\x1b[?1049l")
	unix.IoctlSetTermios(int(t.out.Fd()), unix.TCSETS, t.saved)
}

func (t *terminal) size() (width, height int) {
	s, err := unix.IoctlGetWinsize(int(t.out.Fd()), unix.TIOCGWINSZ)
	if err != nil || s.Col == 0 || s.Row == 0 {
		return 80, 24
	}
	return int(s.Col), int(s.Row)
}

// forget makes the next draw redraw everything.
func (t *terminal) forget() { t.drawn = nil }

// draw shows rows, if they differ from those on the screen.
func (t *terminal) draw(rows []row) error {
	b := []byte("\x1b[H")
	for i, r := range rows {
		if i > 0 {
			b = append(b, "\r\n"...)
		}
		if r.bold {
			b = append(b, "\x1b[1m"...)
		}
		b = append(b, r.text...)
		b = append(b, "\x1b[0m\x1b[K"...)
	}
	b = append(b, "\x1b[J"...)
	if bytes.Equal(b, t.drawn) {
		return nil
	}
	t.drawn = b
	_, err := t.out.Write(b)
	return err
}
