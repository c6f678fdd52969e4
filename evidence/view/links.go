package view

import (
	"bytes"
	"net/netip"
	"slices"

	"culprit/internal/strace"
)

// A Kind says what a part of a line names.
type Kind int

// What a part of a line names.
const (
	Thread  Kind = iota // a thread, by its TID
	File                // a file, as strace wrote its path, still escaped
	Address             // an IP address
)

// A Link is a part of a line that names something.
type Link struct {
	From, To int // bytes of the line
	Kind     Kind
}

// Bounds of the links of a line: it may be all names.
const (
	mostLinks   = 16
	longestName = 512 // bytes
)

// Links returns what a line of a trace names, in order. The line may be cut.
func Links(line []byte) []Link {
	tid, _, text := strace.ParseLine(line)
	if text == nil {
		return nil
	}
	l := linker{line: line, ofFile: fileCalls[string(text.Name())]}
	if tid > 0 {
		l.add(0, bytes.IndexByte(line, ' '), Thread)
	}
	for i := len(line) - len(text); i < len(line) && len(l.links) < mostLinks; {
		switch line[i] {
		case '"':
			i = l.quoted(i)
		case '<':
			i = l.descriptor(i)
		default:
			i++
		}
	}
	return l.links
}

type linker struct {
	line   []byte
	ofFile bool // the first string is a path
	links  []Link
}

func (l *linker) add(from, to int, k Kind) {
	if to-from <= longestName {
		l.links = append(l.links, Link{from, to, k})
	}
}

// quoted reads the string that begins at i, and returns where to go on.
func (l *linker) quoted(i int) int {
	s, rest, ok := strace.CutQuoted(l.line[i:])
	if !ok {
		return len(l.line) // it was cut
	}
	from, to := i+1, i+1+len(s)
	first := l.ofFile
	l.ofFile = false
	switch {
	case len(s) == 0:
	case isAddress(s):
		l.add(from, to, Address)
	case first, s[0] == '/' && len(s) > 1, bytes.HasPrefix(s, []byte("./")), bytes.HasPrefix(s, []byte("../")):
		l.add(from, to, File)
	}
	return len(l.line) - len(rest)
}

// descriptor reads what strace -yy writes after a descriptor, such as 3</etc/passwd> and 4<UDP:[127.0.0.1:4242->127.0.0.1:53]>.
func (l *linker) descriptor(i int) int {
	begin := i + 1
	if i == 0 || begin == len(l.line) || !isDigit(l.line[i-1]) && !bytes.HasSuffix(l.line[:i], []byte("AT_FDCWD")) {
		return begin
	}
	// In a path, strace escapes both brackets; a device has one more: </dev/null<char 1:3>>.
	n := bytes.IndexAny(l.line[begin:], "<>")
	if l.line[begin] == '/' {
		if n > 1 {
			l.add(begin, begin+n, File)
		}
		return begin + max(n, 1)
	}
	at := bytes.Index(l.line[begin:min(len(l.line), begin+len("TCPv6:["))], []byte(":["))
	end := bytes.Index(l.line[begin:], []byte("]>"))
	if at < 0 || end < at {
		return begin
	}
	from, to := begin+at+len(":["), begin+end
	for side := range bytes.SplitSeq(l.line[from:to], []byte("->")) {
		host, trim := side, 0
		if colon := bytes.LastIndexByte(side, ':'); colon >= 0 {
			host = side[:colon]
		}
		if bytes.HasPrefix(host, []byte("[")) && bytes.HasSuffix(host, []byte("]")) {
			host, trim = host[1:len(host)-1], 1
		}
		if len(l.links) < mostLinks && isAddress(host) {
			l.add(from+trim, from+trim+len(host), Address)
		}
		from += len(side) + len("->")
	}
	return to
}

func isAddress(s []byte) bool {
	const longest = 45
	if len(s) > longest || !slices.ContainsFunc(s, func(c byte) bool { return c == '.' || c == ':' }) {
		return false
	}
	_, err := netip.ParseAddr(string(s))
	return err == nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// fileCalls are the calls whose first string is a path, which need not be absolute.
var fileCalls = map[string]bool{
	"access": true, "chdir": true, "chmod": true, "chown": true, "chroot": true, "creat": true, "execve": true, "execveat": true,
	"faccessat": true, "faccessat2": true, "fchmodat": true, "fchownat": true, "getxattr": true, "lchown": true, "link": true,
	"linkat": true, "lstat": true, "mkdir": true, "mkdirat": true, "mknod": true, "mknodat": true, "newfstatat": true, "open": true,
	"openat": true, "openat2": true, "readlink": true, "readlinkat": true, "rename": true, "renameat": true, "renameat2": true,
	"rmdir": true, "stat": true, "statfs": true, "statx": true, "symlink": true, "truncate": true, "unlink": true, "unlinkat": true,
	"utimensat": true,
}
