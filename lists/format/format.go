// Package format reads lists of domains as they are published: one file in one format gives entries, and the lines
// that are none, with the reason.
//
// A list is foreign text. Whatever is in it, reading it takes bounded memory, and no line is left out without
// being counted.
package format

import (
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"culprit/internal/text"
)

// A Format says how a list is written.
type Format string

// The formats. docs/lists.md says what is understood of each.
const (
	Auto    Format = "auto"    // what the first lines look like
	Domains Format = "domains" // a name in each line
	Hosts   Format = "hosts"   // hosts(5)
	RPZ     Format = "rpz"     // a response policy zone: draft-vixie-dnsop-dns-rpz
	Adblock Format = "adblock" // filter rules of ad blockers, as far as they are about whole domains
	Dnsmasq Format = "dnsmasq" // options of dnsmasq(8): address=, server=, local=
	CSV     Format = "csv"     // a table with a column of names: ThreatFox, MISP, OTX
	STIX    Format = "stix"    // a bundle of STIX 2.1
	MISP    Format = "misp"    // events or attributes of MISP as JSON
)

// All returns the formats that a list can be in.
func All() []Format {
	return []Format{Domains, Hosts, RPZ, Adblock, Dnsmasq, CSV, STIX, MISP}
}

// Parse returns the format of that name; the empty name is [Auto].
func Parse(name string) (Format, error) {
	if name == "" || name == string(Auto) {
		return Auto, nil
	}
	for _, f := range All() {
		if name == string(f) {
			return f, nil
		}
	}
	return "", fmt.Errorf("unknown format %q: use auto, or one of %v", name, All())
}

// A Kind says which names an entry means.
type Kind uint8

// The kinds of entries.
const (
	Self  Kind = iota // the name alone
	Below             // everything below the name, but not itself
	Whole             // the name and everything below it
)

func (k Kind) String() string {
	switch k {
	case Self:
		return "the name alone"
	case Below:
		return "everything below the name"
	default:
		return "the name and everything below it"
	}
}

// An Entry is what a list says of one name.
type Entry struct {
	// Name is ASCII in lower case without a final dot: IDNA is done.
	Name string
	Kind Kind
	// Except says that the list allows the name: it is no hit, whatever other entries say.
	Except bool
	// Line counts from 1, in the text that the file holds when it is not compressed.
	Line int
	// Comment is what stands beside the entry, at most 200 bytes. It is foreign text: escape it where it is shown.
	Comment string
}

// Stats say what was read.
type Stats struct {
	// Format is that of the list. It is never [Auto].
	Format Format
	// Detected says that the format was not named.
	Detected bool
	Lines    int
	Entries  int // with exceptions
	// Rejected are the numbers of lines (with CSV, STIX and MISP: of rows and objects) that are no entries.
	Rejected map[Reason]int
	// First are the first rejected lines that somebody may want to look at: not those that every list of its
	// format has.
	First []Reject
}

// Rejects returns how many lines are no entries, for all reasons.
func (s *Stats) Rejects() (n int) {
	for _, of := range s.Rejected {
		n += of
	}
	return n
}

// A Reject is a line that is no entry.
type Reject struct {
	Line   int
	Reason Reason
	Text   string // at most 100 bytes; foreign
}

func (r Reject) String() string {
	return fmt.Sprintf("line %d: %s: %s", r.Line, r.Reason, text.Escape(r.Text))
}

// Bounds of what is kept of a list, in bytes and in lines.
const (
	maxComment = 200
	maxText    = 100
	maxFirst   = 10
)

// ErrNothing says that a list has lines, but not one entry.
var ErrNothing = errors.New("not one domain in it")

// Read reads a list, which may be compressed by gzip or zstd, and calls each for every entry, in the order of the
// lines. It stops at the first error that each returns, and returns that. Stats are what was read until then.
//
// The error is [ErrNothing] if every line that should be an entry was rejected: that is an error page of a web server,
// or a list in another format.
func Read(from io.Reader, format Format, each func(Entry) error) (Stats, error) {
	stats := Stats{Format: format, Detected: format == Auto, Rejected: map[Reason]int{}}
	src, err := open(from)
	if err != nil {
		return stats, err
	}
	defer src.close()
	r := &reader{source: src, each: each, stats: stats}
	if stats.Detected {
		if r.stats.Format, err = detect(src.peek()); err != nil {
			return r.stats, err
		}
	}
	err = r.read()
	r.stats.Lines = src.line
	if err == nil && r.stats.Entries == 0 && len(r.stats.First) > 0 {
		err = fmt.Errorf("read as %s: %w; %s", r.stats.Format, ErrNothing, r.stats.First[0])
	}
	return r.stats, err
}

// A reader is one call of [Read].
type reader struct {
	*source
	each  func(Entry) error
	stats Stats
	err   error // of each
}

func (r *reader) read() error {
	switch r.stats.Format {
	case Domains:
		return r.lines(r.domain)
	case Hosts:
		return r.lines(r.hosts)
	case Adblock:
		return r.lines(r.adblock)
	case Dnsmasq:
		return r.lines(r.dnsmasq)
	case RPZ:
		return r.zone()
	case CSV:
		return r.table()
	case STIX:
		return r.stix()
	case MISP:
		return r.misp()
	}
	return fmt.Errorf("unknown format %q", r.stats.Format)
}

// lines calls parse with each line that is not empty, without space around it.
func (r *reader) lines(parse func(line string)) error {
	for r.err == nil {
		line, err := r.next()
		if err == io.EOF {
			break
		}
		if err == errLong {
			r.reject(Long, line)
			continue
		}
		if err != nil {
			return err
		}
		if line = trim(line); line != "" {
			parse(line)
		}
	}
	return r.err
}

// add hands on an entry of the current line, if name is a domain name.
func (r *reader) add(name string, kind Kind, except bool, comment string) {
	ascii, reason := normalise(name)
	if reason != "" {
		r.reject(reason, name)
		return
	}
	r.give(r.line, ascii, kind, except, comment)
}

// addFull adds an entry of a format in which a word that is no domain can stand where a domain should.
func (r *reader) addFull(line int, name string, kind Kind, comment string) {
	ascii, reason := normalise(name)
	if reason == "" && single(ascii) {
		reason = Single
	}
	if reason != "" {
		r.rejectAt(line, reason, name)
		return
	}
	r.give(line, ascii, kind, false, comment)
}

func (r *reader) give(line int, name string, kind Kind, except bool, comment string) {
	if r.err == nil {
		r.stats.Entries++
		r.err = r.each(Entry{Name: name, Kind: kind, Except: except, Line: line, Comment: clip(comment, maxComment)})
	}
}

func (r *reader) reject(reason Reason, line string) { r.rejectAt(r.line, reason, line) }

func (r *reader) rejectAt(line int, reason Reason, what string) {
	r.stats.Rejected[reason]++
	if len(r.stats.First) < maxFirst && !reason.Usual() {
		r.stats.First = append(r.stats.First, Reject{line, reason, clip(what, maxText)})
	}
}

// clip cuts a text that has more bytes than most, between two runes.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}
