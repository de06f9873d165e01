package input_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"example.com/presence/pkg/presence/internal/input"
)

// value decodes text into a Value with encoding/json.
func value(t *testing.T, text string) input.Value {
	t.Helper()
	var v input.Value
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v
}

func TestObject(t *testing.T) {
	o, ok := value(t, ` {"a":1, "A" : "x", "a":null,"\u0061b":[{"c":"}"}] , "":{}} `).Object()
	want := input.Object{{"a", "1"}, {"A", `"x"`}, {"a", "null"}, {"ab", `[{"c":"}"}]`}, {"", "{}"}}
	if !ok || !reflect.DeepEqual(o, want) {
		t.Errorf("got %q, %v, want %q", o, ok, want)
	}
	for name, want := range map[string]input.Value{"a": "null", "A": `"x"`, "ab": `[{"c":"}"}]`, "": "{}"} {
		if v, there := o.Get(name); v != want || !there {
			t.Errorf("%q is %q, %v, want %q", name, v, there, want)
		}
	}
	if v, there := o.Get("B"); v != "" || there {
		t.Errorf("unknown name: got %q, %v, want none", v, there)
	}
	if name, found := o.Unknown("", "a", "ab"); name != "A" || !found {
		t.Errorf("got the unknown name %q, %v, want A", name, found)
	}
	if name, found := o.Unknown("", "a", "ab", "A", "x"); found {
		t.Errorf("got the unknown name %q, want none", name)
	}
	if o, ok := value(t, "{}").Object(); o == nil || len(o) != 0 || !ok {
		t.Errorf("{}: got %#v, %v, want an empty Object, true", o, ok)
	}
}

func TestTypes(t *testing.T) {
	for text, want := range map[string]struct {
		s              string
		list           []string
		is             bool
		isText, isList bool
		isBool, isNull bool
		isObject       bool
	}{
		`"a"`:                 {s: "a", isText: true},
		`""`:                  {isText: true},
		`"\ud83d\ude00\"\\"`:  {s: "😀\"\\", isText: true},
		`"\ud800"`:            {s: "\ufffd", isText: true},
		`[]`:                  {isList: true},
		`["a" , "\u0062" ]`:   {list: []string{"a", "b"}, isList: true},
		`["a",null]`:          {},
		`[["a"]]`:             {},
		`true`:                {is: true, isBool: true},
		`false`:               {isBool: true},
		`null`:                {isNull: true},
		`1`:                   {},
		`{"a":["b",{"c":1}]}`: {isObject: true},
	} {
		v := value(t, text)
		if s, ok := v.Text(); s != want.s || ok != want.isText {
			t.Errorf("%s: Text: got %q, %v, want %q, %v", text, s, ok, want.s, want.isText)
		}
		if list, ok := v.Texts(); !reflect.DeepEqual(list, want.list) || ok != want.isList {
			t.Errorf("%s: Texts: got %q, %v, want %q, %v", text, list, ok, want.list, want.isList)
		}
		if is, ok := v.Bool(); is != want.is || ok != want.isBool {
			t.Errorf("%s: Bool: got %v, %v, want %v, %v", text, is, ok, want.is, want.isBool)
		}
		if _, ok := v.Object(); ok != want.isObject {
			t.Errorf("%s: is an object: got %v, want %v", text, ok, want.isObject)
		}
		if v.Null() != want.isNull {
			t.Errorf("%s: is null: got %v, want %v", text, v.Null(), want.isNull)
		}
	}
}

// FuzzObject compares Object with encoding/json for valid JSON. For any other text, it only checks
// that no method panics.
func FuzzObject(f *testing.F) {
	for _, text := range []string{
		`{"a":1,"a":{"b":[1,2,"]}"]},"\u0061":"\\\""}`, `{ "a" : 1e9 , "b":[ ] }`, `{"":""}`, `{}`, ` {"a":[[[]]]}`, `[]`, `null`, `"a`, `{"a`, `{"a":"\`, `{]}`, `{,}`, `"\ud800"`, `{}}`,
		`{"a":tru}`, `"`, `{`, ``,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, ok := input.Value(text).Object()
		s, isText := input.Value(text).Text()
		input.Value(text).Texts()
		if !json.Valid([]byte(text)) || !utf8.ValidString(text) || strings.TrimSpace(text) != text {
			return
		}
		var want map[string]json.RawMessage
		err := json.Unmarshal([]byte(text), &want)
		if isObject := err == nil && text != "null"; ok != isObject {
			t.Fatalf("%q: is an object: got %v, want %v", text, ok, isObject)
		}
		for name, raw := range want {
			if v, there := o.Get(name); !there || !bytes.Equal([]byte(v), raw) {
				t.Errorf("%q: %q is %q, %v, want %q", text, name, v, there, raw)
			}
		}
		for _, m := range o {
			if _, there := want[m.Name]; !there {
				t.Errorf("%q: unexpected field %q", text, m.Name)
			}
		}
		var wantText string
		if err := json.Unmarshal([]byte(text), &wantText); (err == nil && text != "null") != isText || s != wantText {
			t.Errorf("%q: Text is %q, %v, want %q, %v", text, s, isText, wantText, err)
		}
	})
}

// Text returns a copy, so that the string does not keep the payload in memory.
func TestTextIsACopy(t *testing.T) {
	payload := input.Value(`"abc"`)
	if n := testing.AllocsPerRun(100, func() { payload.Text() }); n != 1 {
		t.Errorf("Text allocates %v times, want 1", n)
	}
}
