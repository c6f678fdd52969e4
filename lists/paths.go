package lists

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"culprit/internal/config"
)

// Check finds what is wrong with the files of all rules with lists, without reading the lists: every mistake at once. The
// error is a *[config.Error].
func Check(c *config.Config) error {
	var all []config.Problem
	for i, r := range c.Rules {
		_, wrong := expand(r)
		for _, w := range wrong {
			all = append(all, config.Problem{Key: fmt.Sprintf("rules[%d].%s", i, w.key), Text: w.Error()})
		}
	}
	return c.Refuse(all)
}

// Warnings says whose lists others than root can change.
func Warnings(c *config.Config) (all []string) {
	for _, r := range c.Rules {
		paths, _ := expand(r)
		for _, p := range paths {
			if info, err := os.Stat(p.path); err == nil && (!ours(info) || info.Mode().Perm()&0o020 != 0) {
				all = append(all, fmt.Sprintf("rule %s: %s does not belong to root alone: who can change it decides who is traced, and who is not", r.Name, p.path))
			}
		}
	}
	return all
}

// A place is a file that a rule names.
type place struct {
	path   string
	except bool
}

// A mistake is one in a key of a rule, such as "list[0]".
type mistake struct {
	key string
	error
}

// expand finds the files of a rule, each once, those with exceptions last. What a pattern of the lists matches is left
// out if it is a file with exceptions; so are names that begin with a dot, unless the pattern does: there are files that are being
// written.
func expand(r config.Rule) (all []place, wrong []mistake) {
	find := func(key string, patterns config.Paths, except bool) (found []place) {
		for i, pattern := range patterns {
			paths, err := glob(pattern)
			for _, path := range paths {
				err = errors.Join(err, check(path))
				found = append(found, place{path, except})
			}
			if err != nil {
				wrong = append(wrong, mistake{fmt.Sprintf("%s[%d]", key, i), err})
			}
		}
		return found
	}
	names, excepted := find("list", r.List, false), find("except", r.Except, true)
	for _, p := range slices.Concat(names, excepted) {
		twice := slices.ContainsFunc(all, func(o place) bool { return o.path == p.path })
		if !twice && (p.except || !slices.Contains(excepted, place{p.path, true})) {
			all = append(all, p)
		}
	}
	if len(all) > 0 && all[0].except && len(wrong) == 0 {
		wrong = append(wrong, mistake{"list", errors.New("has no file that is not also one of except")})
	}
	return all, wrong
}

// glob returns the files of a pattern.
func glob(pattern string) ([]string, error) {
	if !strings.ContainsAny(pattern, `*?[\`) {
		return []string{filepath.Clean(pattern)}, nil
	}
	paths, err := filepath.Glob(pattern)
	if hidden := strings.HasPrefix(filepath.Base(pattern), "."); !hidden {
		paths = slices.DeleteFunc(paths, func(p string) bool { return strings.HasPrefix(filepath.Base(p), ".") })
	}
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("no file matches %s", pattern)
	}
	return paths, err
}

// check reports why a file cannot be a list: it is not there, or anybody can write to it, so that any user could keep
// culprit from seeing a name, or have others traced.
func check(path string) error {
	file, err := open(path)
	if err != nil {
		return err
	}
	file.Close()
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for at := real; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		sticky := info.IsDir() && info.Mode()&fs.ModeSticky != 0
		if info.Mode().Perm()&0o002 != 0 && !sticky {
			return fmt.Errorf("anybody can write to %s: chmod o-w %s", at, at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// open opens a list. It does not wait for a writer if that is a pipe.
func open(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// ours reports whether a file belongs to root, or to us.
func ours(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (st.Uid == 0 || int(st.Uid) == os.Geteuid())
}
