package input

import (
	"encoding/json"
	"strings"
)

// Value is one JSON value without surrounding whitespace. It must be valid JSON in UTF-8, like the
// argument that encoding/json passes to UnmarshalJSON, because the methods do not check the syntax.
// For any other text, they return an unspecified result but do not panic.
type Value string

// UnmarshalJSON stores a copy of b, so that the value can be decoded later, if at all.
func (v *Value) UnmarshalJSON(b []byte) error {
	*v = Value(b)
	return nil
}

// Null reports whether v is null.
func (v Value) Null() bool { return v == "null" }

// Object contains the fields of a JSON object, with their exact names and in their original order.
// encoding/json ignores case when it decodes into a struct, so that it would accept Sub and SUB for
// the field sub.
type Object []Member

// Member is one field of an [Object].
type Member struct {
	Name  string
	Value Value
}

// Object decodes an object. The values of o share memory with v. ok is false if v is not an object.
// For {}, o is empty but not nil.
func (v Value) Object() (o Object, ok bool) {
	if !enclosed(v, '{', '}') {
		return nil, false
	}
	o = make(Object, 0, 8)
	for name, rest := next(v[1 : len(v)-1]); name != ""; name, rest = next(rest) {
		var m Member
		m.Name, _ = name.unquote()
		m.Value, rest = next(rest)
		o = append(o, m)
	}
	return o, true
}

// Get returns the value of the field with the given name. If the object contains the name more than
// once, Get returns the last value (RFC 7519, section 4). there is true even if the value is null.
func (o Object) Get(name string) (v Value, there bool) {
	for i := len(o) - 1; i >= 0; i-- {
		if o[i].Name == name {
			return o[i].Value, true
		}
	}
	return "", false
}

// Unknown returns the name of the first field that is not in names. found is false if there is no
// such field.
func (o Object) Unknown(names ...string) (name string, found bool) {
members:
	for _, m := range o {
		for _, known := range names {
			if m.Name == known {
				continue members
			}
		}
		return m.Name, true
	}
	return "", false
}

// Text decodes a string. It returns a copy, so that the string does not keep v in memory. An
// unpaired surrogate becomes U+FFFD. ok is false if v is not a string.
func (v Value) Text() (s string, ok bool) {
	s, ok = v.unquote()
	return strings.Clone(s), ok
}

// unquote is like Text, but the string may share memory with v.
func (v Value) unquote() (s string, ok bool) {
	if !enclosed(v, '"', '"') {
		return "", false
	}
	if strings.IndexByte(string(v), '\\') < 0 {
		return string(v[1 : len(v)-1]), true
	}
	var decoded string // a separate variable, because s would otherwise be allocated on the heap in every call
	err := json.Unmarshal([]byte(v), &decoded)
	return decoded, err == nil
}

// Texts decodes a list of strings. ok is false if v is not a list, or if an element is not a
// string, for example null.
func (v Value) Texts() (list []string, ok bool) {
	if !enclosed(v, '[', ']') {
		return nil, false
	}
	for element, rest := next(v[1 : len(v)-1]); element != ""; element, rest = next(rest) {
		s, ok := element.Text()
		if !ok {
			return nil, false
		}
		list = append(list, s)
	}
	return list, true
}

// Bool decodes true or false. ok is false if v is neither.
func (v Value) Bool() (is, ok bool) {
	return v == "true", v == "true" || v == "false"
}

// enclosed reports whether v starts with first and ends with last.
func enclosed(v Value, first, last byte) bool {
	return len(v) >= 2 && v[0] == first && v[len(v)-1] == last
}

// next returns the first value of list and the text after it. list is a part of valid JSON, such as
// the text between two brackets. next skips blanks, commas and colons before the value. At the end
// of list, the value is empty.
func next(list Value) (value, rest Value) {
	list = Value(strings.TrimLeft(string(list), " \t\r\n,:"))
	depth := 0
	for i := 0; i < len(list); i++ {
		switch list[i] {
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		case '"':
			for i++; i < len(list) && list[i] != '"'; i++ {
				if list[i] == '\\' {
					i++
				}
			}
		case ' ', '\t', '\r', '\n', ',':
			if depth == 0 { // after a number, true, false or null
				return list[:i], list[i:]
			}
			continue
		default:
			continue
		}
		if depth == 0 && i < len(list) {
			return list[:i+1], list[i+1:]
		}
	}
	return list, ""
}
