package lists

import (
	"errors"
	"fmt"
	"strings"

	"culprit/internal/config"
	"culprit/lists/format"
)

// Search reads the lists of a rule, and calls found with every entry that means one of the names, be they in as many lists
// as they may: a [set.Set] keeps one. Names are as [format.Entry] has them.
func Search(r config.Rule, names []string, found func(name, path string, e format.Entry)) error {
	paths, wrong := expand(r)
	var errs []error
	for _, w := range wrong {
		errs = append(errs, w)
	}
	for _, p := range paths {
		if err := search(r, p, names, found); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.path, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("rule %s: %w", r.Name, err)
	}
	return nil
}

func search(r config.Rule, p place, names []string, found func(name, path string, e format.Entry)) error {
	how, err := format.Parse(r.Format)
	if err != nil {
		return err
	}
	if p.except {
		how = format.Auto // as in Load
	}
	file, err := open(p.path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = format.Read(file, how, func(e format.Entry) error {
		e.Except = e.Except || p.except
		for _, name := range names {
			if means(e, name) {
				found(name, p.path, e)
			}
		}
		return nil
	})
	return err
}

// means reports whether an entry means a name.
func means(e format.Entry, name string) bool {
	above, ends := strings.CutSuffix(name, e.Name)
	switch {
	case !ends:
		return false
	case above == "":
		return e.Kind != format.Below
	default:
		return e.Kind != format.Self && above[len(above)-1] == '.'
	}
}
