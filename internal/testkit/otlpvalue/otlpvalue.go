// Package otlpvalue reads values of OpenTelemetry in tests.
package otlpvalue

import common "go.opentelemetry.io/proto/otlp/common/v1"

// Plain turns a value into what encoding/json would read, but an integer is an int64.
func Plain(v *common.AnyValue) any {
	switch v := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return v.StringValue
	case *common.AnyValue_BoolValue:
		return v.BoolValue
	case *common.AnyValue_IntValue:
		return v.IntValue
	case *common.AnyValue_DoubleValue:
		return v.DoubleValue
	case *common.AnyValue_ArrayValue:
		var list []any
		for _, one := range v.ArrayValue.Values {
			list = append(list, Plain(one))
		}
		return list
	case *common.AnyValue_KvlistValue:
		object := map[string]any{}
		for _, one := range v.KvlistValue.Values {
			object[one.Key] = Plain(one.Value)
		}
		return object
	}
	return nil
}
