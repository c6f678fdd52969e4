package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// A Source says where `culprit lists update` gets a list from, and where it puts it.
type Source struct {
	URL    string `mapstructure:"url"`  // https
	File   string `mapstructure:"file"` // absolute
	Format string `mapstructure:"format"`
	// SHA256 is what the file must have, in hexadecimal digits; empty: any.
	SHA256   string        `mapstructure:"sha256"`
	MaxBytes Bytes         `mapstructure:"max_bytes"`
	Timeout  time.Duration `mapstructure:"timeout"`
}

// fillSource fills in what a source leaves out.
func fillSource(s *Source) {
	if s.Format == "" {
		s.Format = FormatAuto
	}
	if s.MaxBytes == 0 {
		s.MaxBytes = 64 << 20
	}
	if s.Timeout == 0 {
		s.Timeout = 2 * time.Minute
	}
}

var sha256Digits = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

func (s Source) validate(ps *problems, key string) {
	if u, err := url.Parse(s.URL); err != nil || u.Scheme != "https" || u.Host == "" {
		ps.add(key+".url", "%q is not an address that begins with https://", s.URL)
	}
	if !filepath.IsAbs(s.File) || filepath.Clean(s.File) != s.File {
		ps.add(key+".file", "%q is not the absolute path of a file, such as /etc/culprit/lists/urlhaus.txt", s.File)
	}
	ps.oneOf(key+".format", s.Format, Formats...)
	if s.SHA256 != "" && !sha256Digits.MatchString(s.SHA256) {
		ps.add(key+".sha256", "%q is not a SHA-256: 64 hexadecimal digits", s.SHA256)
	}
	if s.MaxBytes < 1<<10 || s.MaxBytes > 4<<30 {
		ps.add(key+".max_bytes", "%s is out of range; allowed: 1KiB to 4GiB", s.MaxBytes)
	}
	ps.lasts(key+".timeout", s.Timeout, time.Second, time.Hour)
}

func (l Lists) validateSources(ps *problems) {
	if l.User.UID == 0 {
		ps.add("lists.user", "root must not talk to the network: name another user, such as nobody")
	}
	if l.CA != "" && !filepath.IsAbs(l.CA) {
		ps.add("lists.ca", "%q is not an absolute path", l.CA)
	}
	for i, s := range l.Sources {
		key := fmt.Sprintf("lists.sources[%d]", i)
		s.validate(ps, key)
		if first := slices.IndexFunc(l.Sources, func(other Source) bool { return other.File == s.File }); first < i {
			ps.add(key+".file", "%q is already the file of lists.sources[%d]", s.File, first)
		}
	}
}
