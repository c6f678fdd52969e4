package format

import "strings"

// adblock reads a filter rule of an ad blocker, as AdGuard Home and others understand it for DNS:
// https://adguard-dns.io/kb/general/dns-filtering-syntax/. Browsers know many rules more, most of them about parts of a
// page.
func (r *reader) adblock(line string) {
	if line[0] == '!' || line[0] == '[' {
		return
	}
	if !remark(line) && cosmetic(line) {
		r.reject(Cosmetic, line)
		return
	}
	if line[0] == '#' {
		return
	}
	rule, note := comment(line, "#")
	if address, _ := field(rule); address != rule && isAddress(address) {
		r.hosts(line) // such lines stand between the rules of many lists
		return
	}
	rule, except := strings.CutPrefix(rule, "@@")
	if strings.HasPrefix(rule, "/") {
		if strings.LastIndexByte(rule, '/') > 0 {
			r.reject(Regexp, line)
		} else {
			r.reject(Path, line)
		}
		return
	}
	rule, modifiers, _ := strings.Cut(rule, "$")
	if !whole(modifiers) {
		r.reject(Modifier, line)
		return
	}
	name, kind := rule, Self
	if bare, found := strings.CutPrefix(rule, "||"); found {
		name, kind = bare, Whole
	} else if bare, found := strings.CutPrefix(rule, "|"); found {
		name = bare
	}
	end := strings.IndexByte(name, '^')
	switch {
	case end < 0 && name == rule:
		// A bare name is that name alone, and a bare word a part of a URL.
		if single(name) {
			r.reject(Path, line)
			return
		}
	case strings.ContainsAny(name, "/:"):
		r.reject(Path, line)
		return
	case end < 0 || name == rule || end < len(name)-1 && name[end:] != "^|":
		r.reject(Syntax, line) // "||x" also means x.anything, and "x^" anythingx
		return
	default:
		name = name[:end]
	}
	if bare, below := strings.CutPrefix(name, "*."); below && kind == Whole {
		name, kind = bare, Below
	}
	r.add(name, kind, except, note)
}

// remark reports whether the line is a comment as in a hosts file, and not a rule for all pages ("##.banner").
func remark(line string) bool {
	rest := strings.TrimLeft(line, "#")
	return rest != line && (rest == "" || rest[0] == ' ' || rest[0] == '\t')
}

// cosmetic reports whether the rule is about elements, scripts or styles of pages.
func cosmetic(rule string) bool {
	for i := 0; ; i++ {
		n := strings.IndexAny(rule[i:], "#$")
		if n < 0 {
			return false
		}
		i += n
		for _, mark := range []string{"##", "#@#", "#?#", "#@?#", "#$#", "#@$#", "#$?#", "#%#", "#@%#", "$$", "$@$"} {
			if strings.HasPrefix(rule[i:], mark) {
				return true
			}
		}
	}
}

// whole reports whether a rule with these modifiers is about all that is asked for a name.
func whole(modifiers string) bool {
	for modifier := range strings.SplitSeq(modifiers, ",") {
		if modifier != "" && modifier != "important" && modifier != "all" {
			return false
		}
	}
	return true
}
