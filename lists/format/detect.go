package format

import (
	"errors"
	"strings"
)

// errUnclear is returned for a list that looks like none of the formats.
var errUnclear = errors.New("the first lines look like none of the formats: say which one it is (format: domains)")

// detect returns the format that most of the first lines have. Lines of several formats look alike, so the order of the
// questions counts.
func detect(start []byte) (Format, error) {
	text := strings.TrimLeft(string(start), " \t\r\n")
	if object := strings.TrimLeft(text, "[ \t\r\n"); strings.HasPrefix(object, "{") {
		switch {
		case strings.Contains(text, `"Attribute"`), strings.Contains(text, `"Event"`):
			return MISP, nil
		case strings.Contains(text, `"objects"`), strings.Contains(text, `"spec_version"`):
			return STIX, nil
		}
		return "", errUnclear
	}
	if strings.HasPrefix(text, "<") {
		return "", errors.New("this is HTML or XML, and not a list")
	}
	votes := map[Format]int{}
	lines := 0
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") && lines > 0 {
			break // cut
		}
		if lines++; lines > 1000 {
			break
		}
		votes[look(strings.TrimRight(line, "\r\n"))]++
	}
	best, most := Format(""), 0
	for _, f := range All() {
		if votes[f] > most {
			best, most = f, votes[f]
		}
	}
	switch {
	case best != "":
		return best, nil
	case lines == votes[""]:
		return Domains, nil // nothing but comments, or nothing at all
	}
	return "", errUnclear
}

// unclear is the vote of a line that has no format.
const unclear Format = "?"

// look says which format a line looks like: "" if it is a comment.
func look(line string) Format {
	bare := trim(line)
	if strings.HasPrefix(bare, "[Adblock") || strings.HasPrefix(bare, "||") || strings.HasPrefix(bare, "@@") || !remark(bare) && cosmetic(bare) {
		return Adblock
	}
	if strings.HasPrefix(bare, "#") {
		// ThreatFox and URLhaus comment their headings out.
		if row := strings.Split(strings.Trim(bare, "# "), ","); len(row) > 2 {
			for i := range row {
				row[i] = strings.Trim(row[i], ` "`)
			}
			if headings(row) != nil {
				return CSV
			}
		}
		return ""
	}
	if bare == "" || bare[0] == ';' || bare[0] == '!' || strings.HasPrefix(bare, "//") {
		return ""
	}
	word, rest := field(bare)
	option, value, _ := strings.Cut(bare, "=")
	switch upper := strings.ToUpper(" " + rest + " "); {
	case word == "$TTL", word == "$ORIGIN",
		strings.Contains(upper, " CNAME "), strings.Contains(upper, " SOA "), strings.Contains(upper, " IN "):
		return RPZ
	case strings.HasPrefix(trim(value), "/") && (option == "address" || option == "server" || option == "local"):
		return Dnsmasq
	case rest != "" && isAddress(word):
		return Hosts
	}
	name, _ := comment(bare, "#;!")
	name, more := field(name)
	name, _ = wildcard(strings.TrimPrefix(name, "="))
	if _, reason := normalise(name); more == "" && reason == "" {
		return Domains
	}
	if columnsOf(bare) {
		return CSV
	}
	return unclear
}

// columnsOf reports whether a line is a row of a table: one cell at least is or names a domain.
func columnsOf(line string) bool {
	row := strings.Split(line, string(separator(line)))
	for i := range row {
		row[i] = strings.Trim(row[i], ` "`)
	}
	if len(row) < 2 {
		return false
	}
	if headings(row) != nil {
		return true
	}
	for _, cell := range row {
		if name, reason := normalise(cell); reason == "" && !single(name) {
			return true
		}
	}
	return false
}
