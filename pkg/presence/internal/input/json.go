package input

import (
	"encoding/json"
	"strings"
)

// Value is one JSON value without surrounding blanks. It must be valid JSON in UTF-8, like the
// argument that encoding/json passes to UnmarshalJSON: the methods do not check the syntax. For any
// other text they return an unspecified result and do not panic.
type Value string

// UnmarshalJSON copies the value, so that it can be decoded later, or never.
func (v *Value) UnmarshalJSON(b []byte) error {
	*v = Value(b)
	return nil
}

// Null reports whether v is null.
func (v Value) Null() bool { return v == "null" }

// Object holds the members of a JSON object by their exact names, in their order. encoding/json
// ignores case: it would decode Sub and SUB into a struct field for sub as well.
type Object []Member

// Member is one member of an [Object].
type Member struct {
	Name  string
	Value Value
}

// Object decodes an object. Its values share v's memory. ok is false if v is not an object. The
// Object of {} is not nil.
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

// Get returns the value of the member with that name. Of several members it returns the last one
// (RFC 7519 section 4). there is true even if the value is null.
func (o Object) Get(name string) (v Value, there bool) {
	for i := len(o) - 1; i >= 0; i-- {
		if o[i].Name == name {
			return o[i].Value, true
		}
	}
	return "", false
}

// Unknown returns the name of the first member whose name is not in names. found is false if there
// is no such member.
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

// Text decodes a string and copies it, so that it does not keep v in memory. Half of a surrogate
// pair becomes U+FFFD. ok is false if v is not a string.
func (v Value) Text() (s string, ok bool) {
	s, ok = v.unquote()
	return strings.Clone(s), ok
}

// unquote is Text without the copy.
func (v Value) unquote() (s string, ok bool) {
	if !enclosed(v, '"', '"') {
		return "", false
	}
	if strings.IndexByte(string(v), '\\') < 0 {
		return string(v[1 : len(v)-1]), true
	}
	var decoded string // not s, which would then be on the heap in each call
	err := json.Unmarshal([]byte(v), &decoded)
	return decoded, err == nil
}

// Texts decodes a list of strings. ok is false if v is not a list or an element is not a string,
// such as null.
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

// enclosed reports whether v is between the two bytes.
func enclosed(v Value, first, last byte) bool {
	return len(v) >= 2 && v[0] == first && v[len(v)-1] == last
}

// next splits list after its first value. list is a part of valid JSON between two brackets. next
// skips the blanks, commas and colons before that value. It returns "" at the end.
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
