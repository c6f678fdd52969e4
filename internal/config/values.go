package config

import (
	"errors"
	"fmt"
	"os/user"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-viper/mapstructure/v2"
)

// Bytes is a size. In the file it has a unit: B, KiB, MiB, GiB or TiB.
type Bytes int64

var units = []struct {
	name string
	size Bytes
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// ParseBytes reads a size such as "64MiB" or "1.5 GiB".
func ParseBytes(s string) (Bytes, error) {
	number := strings.TrimRightFunc(s, unicode.IsLetter)
	for _, u := range units {
		if s[len(number):] != u.name {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || n < 0 || n*float64(u.size) > 1<<60 {
			break
		}
		return Bytes(n * float64(u.size)), nil
	}
	return 0, fmt.Errorf("%q is not a size: write a number and its unit (B, KiB, MiB, GiB, TiB), as in 64MiB", s)
}

// String writes the size in the largest unit that gives a whole number.
func (b Bytes) String() string {
	for _, u := range units {
		if b >= u.size && b%u.size == 0 {
			return fmt.Sprintf("%d%s", b/u.size, u.name)
		}
	}
	return fmt.Sprintf("%dB", int64(b))
}

const day = 24 * time.Hour

// ParseDuration reads what [time.ParseDuration] reads, and whole days: "30d".
func ParseDuration(s string) (time.Duration, error) {
	const mostDays = 100 * 365 // far less than a duration can hold
	if n, ok := strings.CutSuffix(s, "d"); ok {
		if days, err := strconv.ParseUint(n, 10, 32); err == nil && days <= mostDays {
			return time.Duration(days) * day, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration: write a number and its unit (ms, s, m, h, d), as in 30s", s)
	}
	return d, nil
}

// User is a user of this machine, written as a name or as a UID.
type User struct {
	UID  uint32
	Name string // as written; the decimal UID if there is no name
}

// ParseUser resolves a name or a decimal UID. It looks names up in /etc/passwd; users that
// exist only in LDAP or the like must be given by UID.
func ParseUser(s string) (User, error) {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		if uint32(n) == ^uint32(0) {
			return User{}, fmt.Errorf("%s is not a UID: the kernel uses it for \"none\"", s)
		}
		return User{UID: uint32(n), Name: s}, nil
	}
	u, err := user.Lookup(s)
	if unknown := user.UnknownUserError(""); err != nil && !errors.As(err, &unknown) {
		return User{}, fmt.Errorf("look up user %q: %w: give the UID", s, err)
	}
	if err != nil {
		return User{}, fmt.Errorf("no user %q in /etc/passwd: check the spelling, or give the UID", s)
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return User{}, fmt.Errorf("user %q has the UID %q in /etc/passwd, which is not a number", s, u.Uid)
	}
	return User{UID: uint32(n), Name: s}, nil
}

// decodeHook turns the texts of the file into durations, sizes, paths and users. It refuses numbers
// without a unit, as viper would take `window: 90` for 90 ns.
//
// A list of one value need not be written as a list.
func decodeHook(_, to reflect.Type, data any) (any, error) {
	if to.Kind() == reflect.Slice {
		switch data.(type) {
		case string, int:
			if to.Elem().Kind() == reflect.TypeOf(data).Kind() || to.Elem() == reflect.TypeFor[User]() {
				return []any{data}, nil
			}
		}
		return data, nil
	}
	switch to {
	case reflect.TypeFor[time.Duration]():
		s, ok := data.(string)
		if !ok {
			return nil, fmt.Errorf("%v is not a duration: write a number and its unit (ms, s, m, h, d), as in 30s", data)
		}
		return ParseDuration(s)
	case reflect.TypeFor[Bytes]():
		s, ok := data.(string)
		if !ok {
			return nil, fmt.Errorf("%v is not a size: write a number and its unit (B, KiB, MiB, GiB, TiB), as in 64MiB", data)
		}
		return ParseBytes(s)
	case reflect.TypeFor[User]():
		switch data.(type) {
		case string, int:
			return ParseUser(fmt.Sprint(data))
		}
		return nil, fmt.Errorf("%v is neither a user name nor a UID", data)
	}
	return data, nil
}

// decodeProblems turns mapstructure's tree of errors into one problem for each key.
func decodeProblems(err error) []Problem {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		var all []Problem
		for _, one := range e.Unwrap() {
			all = append(all, decodeProblems(one)...)
		}
		return all
	case interface{ Unwrap() error }:
		inner := e.Unwrap()
		var deeper *mapstructure.DecodeError
		if errors.As(inner, &deeper) {
			return decodeProblems(inner)
		}
	}
	p := Problem{Text: err.Error()}
	var de *mapstructure.DecodeError
	if errors.As(err, &de) {
		p = Problem{Key: de.Name(), Text: de.Unwrap().Error()}
	}
	var wrong *mapstructure.UnconvertibleTypeError
	switch {
	case errors.As(err, &wrong):
		p.Text = fmt.Sprintf("must be %s, not %s", kindName(wrong.Expected.Type()), shown(wrong.Value))
	case strings.HasPrefix(p.Text, "source data must be an array"):
		p.Text = "must be a list ([a, b])"
	}
	return []Problem{p}
}

// shown formats a value of the file, a text with its quotes.
func shown(v any) string {
	if s, ok := v.(string); ok {
		return fmt.Sprintf("the text %q", s)
	}
	return fmt.Sprint(v)
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int:
		return "a whole number"
	case reflect.String:
		return "a text (in quotes)"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list ([a, b])"
	case reflect.Struct, reflect.Map:
		return "keys and values ({key: value})"
	}
	return t.String()
}
