package format

import (
	"encoding/json"
	"fmt"
	"io"
)

// Bounds of JSON lists. Objects of MISP can hold whole files.
const (
	maxObject = 16 << 20
	maxDepth  = 64
)

// objects decodes each element of every array that stands under the key into a T, and calls take with it and the line that it begins in.
func objects[T any](r *reader, key string, take func(line int, object *T)) error {
	in := &records{source: r.source, most: maxObject}
	dec := json.NewDecoder(in)
	defer in.count()
	broken := func(err error) error {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("at or behind line %d: %w", in.lineAt(dec.InputOffset()), err)
	}
	var raw json.RawMessage
	depth, last := 0, ""
	for r.err == nil {
		in.begin(dec.InputOffset())
		token, err := dec.Token()
		if err == io.EOF && depth == 0 {
			break
		}
		if err != nil {
			return broken(err)
		}
		name, _ := token.(string)
		switch token {
		case json.Delim('['), json.Delim('{'):
			if depth++; depth > maxDepth {
				return broken(fmt.Errorf("more than %d objects and arrays in each other", maxDepth))
			}
			for token == json.Delim('[') && last == key && r.err == nil && dec.More() {
				in.begin(dec.InputOffset())
				if err := dec.Decode(&raw); err != nil {
					return broken(err)
				}
				line := in.lineAt(dec.InputOffset() - int64(len(raw)))
				object := new(T)
				if err := json.Unmarshal(raw, object); err != nil {
					r.rejectAt(line, Syntax, err.Error())
				} else {
					take(line, object)
				}
			}
		case json.Delim(']'), json.Delim('}'):
			depth--
		}
		last = name
	}
	return r.err
}

// misp reads events and attributes of MISP (https://www.misp-standard.org, misp-core-format).
func (r *reader) misp() error {
	type attribute struct {
		Type, Value, Comment string
		Detect               *bool `json:"to_ids"` // if missing it is
		Deleted              bool
	}
	return objects(r, "Attribute", func(line int, a *attribute) {
		kind, domain := types[a.Type]
		switch {
		case !domain:
			r.rejectAt(line, Type, a.Value)
		case a.Deleted || a.Detect != nil && !*a.Detect:
			r.rejectAt(line, Withdrawn, a.Value)
		default:
			r.indicator(line, a.Value, kind, a.Comment)
		}
	})
}

// stix reads indicators and domain names out of a bundle of STIX 2.1, or an envelope of TAXII 2.1.
func (r *reader) stix() error {
	type object struct {
		Type, Name, Description, Value, Pattern string
		PatternType                             string `json:"pattern_type"`
		Revoked                                 bool
	}
	return objects(r, "objects", func(line int, o *object) {
		note := o.Description
		if note == "" {
			note = o.Name
		}
		switch {
		case o.Type == "domain-name":
			r.indicator(line, o.Value, Self, note)
		case o.Type != "indicator":
			r.rejectAt(line, Type, o.Type)
		case o.Revoked:
			r.rejectAt(line, Withdrawn, o.Pattern)
		case o.PatternType != "" && o.PatternType != "stix":
			r.rejectAt(line, Type, o.PatternType)
		default:
			names, reason := pattern(o.Pattern)
			if reason != "" {
				r.rejectAt(line, reason, o.Pattern)
			}
			for _, n := range names {
				r.indicator(line, n.Name, n.Kind, note)
			}
		}
	})
}
