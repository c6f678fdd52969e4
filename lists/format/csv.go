package format

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// columns are the headings of the columns that hold names, types and comments in published tables.
var columns = map[string]func(*table, int){
	"domain": value, "domain_name": value, "hostname": value, "host": value, "fqdn": value,
	"indicator": value, "ioc": value, "ioc_value": value, "indicator_value": value, "value": value,

	"type": kind, "ioc_type": kind, "indicator_type": kind, "indicator type": kind,

	"comment": note, "description": note, "threat": note, "threat_type": note, "malware_printable": note, "family": note,
}

// types are the types of indicators that are domains, as those tables and MISP call them. MISP's own RPZ export takes a
// domain with all below it, and a hostname alone.
var types = map[string]Kind{
	"domain": Whole, "domain-name": Whole, "domain_name": Whole, "domain|ip": Whole,
	"hostname": Self, "host": Self, "fqdn": Self, "hostname|port": Self,
}

// A table is a CSV file (RFC 4180) being read.
type table struct {
	value, kind, note int // columns; -1: there is none
}

func value(t *table, i int) { first(&t.value, i) }
func kind(t *table, i int)  { first(&t.kind, i) }
func note(t *table, i int)  { first(&t.note, i) }

func first(column *int, i int) {
	if *column < 0 {
		*column = i
	}
}

// table reads a table with a line of headings, which may be a comment (ThreatFox), or without: then the only column with a
// name in it, in the first row, is taken.
func (r *reader) table() error {
	start := string(r.peek())
	in := &records{source: r.source, most: maxLine}
	defer in.count()
	c := csv.NewReader(in)
	c.Comma, c.FieldsPerRecord, c.TrimLeadingSpace, c.LazyQuotes, c.ReuseRecord = separator(start), -1, true, true, true
	var t *table
	for r.err == nil {
		in.begin(c.InputOffset())
		row, err := c.Read()
		if err == io.EOF {
			break
		}
		if broken := (*csv.ParseError)(nil); errors.As(err, &broken) {
			r.rejectAt(broken.StartLine, Syntax, broken.Err.Error())
			continue
		}
		if err != nil {
			return err
		}
		line, _ := c.FieldPos(0)
		if remark, found := strings.CutPrefix(row[0], "#"); found {
			if t == nil {
				row[0] = strings.Trim(remark, ` "`)
				t = headings(row)
			}
			continue
		}
		if t == nil {
			if t = headings(row); t != nil {
				continue
			}
			if t = guess(row); t == nil {
				return fmt.Errorf("line %d: no heading says which column holds the domains: name it domain", line)
			}
		}
		r.row(t, line, row)
	}
	return r.err
}

func (r *reader) row(t *table, line int, row []string) {
	cell := func(column int) string {
		if column < 0 || column >= len(row) {
			return ""
		}
		return trim(row[column])
	}
	name, of := cell(t.value), Whole
	if t.kind >= 0 {
		var found bool
		if of, found = types[strings.ToLower(cell(t.kind))]; !found {
			r.rejectAt(line, Type, name)
			return
		}
	}
	r.indicator(line, name, of, cell(t.note))
}

// indicator adds the domain of a typed indicator. MISP joins two values by a bar.
func (r *reader) indicator(line int, name string, kind Kind, note string) {
	name, _, _ = strings.Cut(name, "|")
	r.addFull(line, name, kind, note)
}

// headings returns where the columns are, or nil if the row does not name the one that matters.
func headings(row []string) *table {
	t := &table{-1, -1, -1}
	for i, heading := range row {
		if set := columns[strings.ToLower(trim(heading))]; set != nil {
			set(t, i)
		}
	}
	if t.value < 0 {
		return nil
	}
	return t
}

// guess returns a table of one column, if just one holds a domain name.
func guess(row []string) *table {
	t := &table{-1, -1, -1}
	for i, cell := range row {
		if name, reason := normalise(trim(cell)); reason != "" || single(name) {
			continue
		}
		if t.value >= 0 {
			return nil
		}
		t.value = i
	}
	if t.value < 0 {
		return nil
	}
	return t
}

// separator returns what stands between the columns in the first line that is no comment.
func separator(start string) rune {
	for line := range strings.Lines(start) {
		if line = trim(strings.TrimRight(line, "\r\n")); line == "" || line[0] == '#' {
			continue
		}
		if strings.Count(line, ";") > strings.Count(line, ",") {
			return ';'
		}
		if strings.Count(line, "\t") > strings.Count(line, ",") {
			return '\t'
		}
		break
	}
	return ','
}
