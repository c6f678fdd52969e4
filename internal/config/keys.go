package config

import (
	"reflect"
	"slices"
	"strconv"
)

// Keys lists the keys of a section of the configuration, in order. The section "" is the whole
// file; "rules" and "rules[1]" are the same. It returns nil if there is no such section.
func Keys(section string) []string {
	t := reflect.TypeFor[Config]()
	for _, step := range splitKey(section) {
		if _, err := strconv.Atoi(step); err == nil {
			continue // all items of a list are alike
		}
		i := slices.Index(tags(t), step)
		if i < 0 {
			return nil
		}
		if t = t.Field(i).Type; t.Kind() == reflect.Slice {
			t = t.Elem()
		}
	}
	return slices.DeleteFunc(tags(t), func(tag string) bool { return tag == "" || tag == "-" })
}

// tags returns the keys of a struct's fields, field by field; nil for other types.
func tags(t reflect.Type) []string {
	if t.Kind() != reflect.Struct {
		return nil
	}
	var all []string
	for i := range t.NumField() {
		all = append(all, t.Field(i).Tag.Get("mapstructure"))
	}
	return all
}
