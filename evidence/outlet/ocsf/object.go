package ocsf

import (
	"encoding/json"
	"strconv"
)

// An object is one of JSON, as it was decoded. Numbers are as they were written.
type object map[string]any

// at returns what is at a path, nil if nothing is.
func at(v any, path ...string) any {
	for _, key := range path {
		v = asObject(v)[key]
	}
	return v
}

// asObject returns nil for what is no object.
func asObject(v any) object {
	switch v := v.(type) {
	case object:
		return v
	case map[string]any:
		return v
	}
	return nil
}

// take returns what is at a path and removes it, with the objects that become empty.
func (o object) take(path ...string) any {
	if len(path) == 1 {
		v := o[path[0]]
		delete(o, path[0])
		return v
	}
	below := asObject(o[path[0]])
	if below == nil {
		return nil
	}
	v := below.take(path[1:]...)
	if len(below) == 0 {
		delete(o, path[0])
	}
	return v
}

// text is take for texts. What is none stays.
func (o object) text(path ...string) string {
	s, ok := at(o, path...).(string)
	if ok {
		o.take(path...)
	}
	return s
}

// set sets what is there.
func set(o object, key string, v any) {
	switch v := v.(type) {
	case nil:
	case string:
		if v != "" {
			o[key] = v
		}
	case object:
		if len(v) > 0 {
			o[key] = v
		}
	default:
		o[key] = v
	}
}

// number reads a number, also one that is written as a text.
func number(v any) (int64, bool) {
	switch v := v.(type) {
	case json.Number:
		n, err := v.Int64()
		return n, err == nil
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		return n, err == nil
	}
	return 0, false
}
