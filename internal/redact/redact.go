// Package redact masks secrets in the evidence: whatever a pattern matches becomes as many
// asterisks as it had bytes. So lines stay at their offsets, and a trace still shows the length
// of each string, as strace's results do anyway.
package redact

import (
	"bytes"
	"fmt"
	"regexp"
)

// Patterns say what to mask. A nil *Patterns masks nothing. They are safe for concurrent use.
type Patterns struct{ all []*regexp.Regexp }

// Compile reads regular expressions of RE2 (https://github.com/google/re2/wiki/Syntax). If an
// expression has groups, only what the groups match is masked. Every mistake has its index in
// the list. Both results are nil if there are no patterns.
func Compile(patterns []string) (*Patterns, map[int]error) {
	wrong := map[int]error{}
	p := new(Patterns)
	for i, pattern := range patterns {
		re, err := regexp.Compile(pattern)
		switch {
		case err != nil:
			wrong[i] = err
		case re.MatchString(""):
			wrong[i] = fmt.Errorf("it matches even where there is nothing")
		}
		p.all = append(p.all, re)
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	if len(p.all) == 0 {
		return nil, nil
	}
	return p, nil
}

// Bytes masks b in place.
func (p *Patterns) Bytes(b []byte) {
	if p == nil {
		return
	}
	for _, re := range p.all {
		for _, m := range re.FindAllSubmatchIndex(b, -1) {
			if len(m) > 2 {
				m = m[2:] // the groups
			}
			for ; len(m) > 0; m = m[2:] {
				if m[0] >= 0 { // a group may have no part in a match
					fill(b[m[0]:m[1]])
				}
			}
		}
	}
}

func fill(b []byte) {
	for i := range b {
		b[i] = '*'
	}
}

// Text returns s with all matches masked.
func (p *Patterns) Text(s string) string {
	if p == nil || s == "" {
		return s
	}
	b := []byte(s)
	p.Bytes(b)
	if string(b) == s {
		return s
	}
	return string(b)
}

// maxLine bounds how much of a line is searched as a whole. The rest of a longer line is masked
// to its last byte, because nobody can say what is in it. So is the part just before, which may
// be the beginning of a secret.
const (
	maxLine = 1 << 20
	shortly = 4 << 10
)

// A Masker masks lines on their way into a writer. It is owned by one goroutine.
type Masker struct {
	patterns *Patterns
	write    func([]byte) (int, error)
	spare    func(line []byte) int
	buf      []byte // the beginning of a line
	long     bool   // more than maxLine of the current line has been written
}

// Masker returns a Masker that writes whole lines with write. spare returns how many bytes at
// the beginning of a line are never masked. Close it to write a last line without an end.
func (p *Patterns) Masker(write func([]byte) (int, error), spare func(line []byte) int) *Masker {
	return &Masker{patterns: p, write: write, spare: spare}
}

// Write takes all of b, or returns the writer's error; then it is unknown how much of b was
// written.
func (m *Masker) Write(b []byte) (int, error) {
	m.buf = append(m.buf, b...)
	done := 0
	for {
		i := bytes.IndexByte(m.buf[done:], '\n')
		if i < 0 {
			break
		}
		m.mask(m.buf[done : done+i])
		m.long = false
		done += i + 1
	}
	if rest := m.buf[done:]; m.long || len(rest) > maxLine {
		m.mask(rest)
		m.long = true
		done = len(m.buf)
	}
	if done == 0 {
		return len(b), nil
	}
	_, err := m.write(m.buf[:done])
	m.buf = append(m.buf[:0], m.buf[done:]...)
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// mask masks a line, or a piece of a long one.
func (m *Masker) mask(line []byte) {
	known := 0
	if !m.long {
		known = min(len(line), maxLine)
		m.patterns.Bytes(line[m.spare(line[:known]):known])
		if len(line) > maxLine {
			known = maxLine - shortly
		}
	}
	fill(line[known:])
}

// Close writes a last line without an end.
func (m *Masker) Close() error {
	if len(m.buf) == 0 {
		return nil
	}
	m.mask(m.buf)
	_, err := m.write(m.buf)
	m.buf = nil
	return err
}
