package auth_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"example.com/presence/pkg/presence/auth"
)

// reference is a second, simpler implementation of the rules for claims. It decodes the payload
// with encoding/json only. It returns the user, or the reason that follows the text of
// auth.ErrBadToken.
func reference(payload string) (auth.User, string) {
	const date = "a NumericDate from 1970 to 9999"
	type object = map[string]json.RawMessage
	var (
		u        auth.User
		all      object
		presence object
		problem  string
	)
	if !utf8.ValidString(payload) || json.Unmarshal([]byte(payload), &all) != nil {
		return u, "not a JWT"
	}
	read := func(o object, path, must string, v any) {
		raw, there := o[path[strings.LastIndexByte(path, '.')+1:]]
		if there && string(raw) != "null" && json.Unmarshal(raw, v) != nil {
			problem = cmp.Or(problem, path+" must be "+must)
		}
	}
	list := func(o object, path, must string) (texts []string) {
		var pointers []*string
		read(o, path, must, &pointers)
		for _, p := range pointers {
			if p == nil {
				problem = cmp.Or(problem, path+" must be "+must)
				return nil
			}
			texts = append(texts, *p)
		}
		return texts
	}
	seconds := func(path string, unset float64) float64 {
		s := unset
		if read(all, path, date, &s); s != unset && (s < 0 || s >= 253402300800) {
			problem = cmp.Or(problem, path+" must be "+date)
		}
		return s
	}
	var iss, aud string
	read(all, "sub", "a string", &u.ID)
	read(all, "name", "a string", &u.Name)
	read(all, "sid", "a string", &u.SID)
	read(all, "iss", "a string", &iss)
	if json.Unmarshal(all["aud"], &aud) != nil {
		list(all, "aud", "a string or a list of strings")
	}
	never := math.Inf(1)
	exp, nbf := seconds("exp", never), seconds("nbf", 0)
	read(all, "presence", "an object", &presence)
	u.Join, u.Send = []string{"lobby"}, []string{"lobby"}
	if presence != nil {
		u.Join = list(presence, "presence.join", "a list of strings")
		u.Send = list(presence, "presence.send", "a list of strings")
		read(presence, "presence.admin", "true or false", &u.Admin)
		if info := presence["info"]; string(info) != "null" {
			u.Info = info
		}
	}
	now := float64(time.Now().Unix())
	switch {
	case problem != "":
		return auth.User{}, problem
	case exp <= now:
		return auth.User{}, "expired"
	case nbf > now+30:
		return auth.User{}, "not valid yet"
	}
	if exp != never {
		whole, part := math.Modf(exp)
		u.Expires = time.Unix(int64(whole), int64(part*1e9))
	}
	u, err := u.Checked()
	return u, reasonOf(err)
}

// reasonOf returns the part of an error's text that follows the text of auth.ErrBadToken.
func reasonOf(err error) string {
	if err == nil || !errors.Is(err, auth.ErrBadToken) {
		return fmt.Sprint(err)
	}
	return strings.TrimPrefix(err.Error(), auth.ErrBadToken.Error()+": ")
}

// agree fails the test unless Authenticate and reference return the same result for a signed
// payload. It reports whether that result is a user.
func agree(t *testing.T, j *auth.JWT, payload string) bool {
	t.Helper()
	token := hs256(payload)
	if len(token) > 8<<10 {
		return false
	}
	got, err := j.Authenticate(bearer(token))
	want, problem := reference(payload)
	if !reflect.DeepEqual(got, want) || reasonOf(err) != problem {
		t.Errorf("%q\ngot  %+v, %s\nwant %+v, %s", payload, got, reasonOf(err), want, problem)
	}
	return err == nil
}

// payloads generates JSON payloads that two decoders are likely to decode differently.
type payloads struct{ *rand.Rand }

func (p payloads) pick(of ...string) string { return of[p.IntN(len(of))] }

func (p payloads) blank() string {
	return p.pick("", "", "", "", "", "", " ", "\n", "\t\r\n  ")
}

func (p payloads) text() string {
	return p.pick(`"alice"`, `"alice"`, `"a"`, `""`, `"*"`, `"ä"`, `"\u0061lice"`, `"a\"b"`, `"a\\"`, `"\\\""`, `"a\/b"`, `"\ud83d\ude00"`, `"\ud83d"`,
		`"\ude00\ud83d"`, `"\n"`, `"\ufffd"`, "\"\ufffd\"", `"}],{["`, `", : "`, `"null"`, "\"a\u0085\"", "\"\u2028\"", `"<&>"`, "\"\xff\"", "\"\xc3\"")
}

func (p payloads) number() string {
	return p.pick("4102444800", "4102444800.5", "4.1024448e9", "0", "-0", "-1", "1", "1E3", "1e-3", "253402300799", "253402300800", "1e300", "1e400", "9007199254740993", "01", "NaN", "0x10", "1_0")
}

func (p payloads) value(depth int) string {
	switch p.IntN(8) {
	case 0, 1, 2:
		return p.text()
	case 3:
		return p.number()
	case 4:
		return p.pick("null", "null", "true", "false", "{}", "[]", "tru")
	case 5, 6:
		if depth > 0 {
			return p.list(func() string { return p.value(depth - 1) })
		}
		return p.list(p.text)
	default:
		if depth > 0 {
			return p.object(depth-1, p.text)
		}
		return "{}"
	}
}

func (p payloads) list(element func() string) string {
	var all []string
	for range p.IntN(4) {
		all = append(all, p.blank()+element()+p.blank())
	}
	return "[" + p.blank() + strings.Join(all, ",") + "]"
}

func (p payloads) object(depth int, name func() string) string {
	var all []string
	for range p.IntN(6) {
		all = append(all, p.blank()+name()+p.blank()+":"+p.blank()+p.value(depth)+p.blank())
	}
	return "{" + p.blank() + strings.Join(all, ",") + "}"
}

// claim returns a field of a payload, mostly with a value of the right type.
func (p payloads) claim() string {
	name := p.pick("sub", "sub", "name", "sid", "iss", "aud", "exp", "nbf", "presence", "presence")
	value := map[string]func() string{
		"aud": func() string { return p.list(p.text) }, "exp": p.number, "nbf": p.number, "presence": p.presence,
	}[name]
	switch {
	case p.IntN(8) == 0:
		value = func() string { return p.value(2) }
	case value == nil:
		value = p.text
	}
	return p.named(name) + p.blank() + ":" + p.blank() + value()
}

func (p payloads) presence() string {
	var all []string
	for range p.IntN(5) {
		name := p.pick("join", "send", "admin", "info")
		value := p.value(2)
		switch {
		case p.IntN(8) == 0:
		case name == "admin":
			value = p.pick("true", "false", "null")
		case name != "info":
			value = p.list(p.text)
		}
		all = append(all, p.blank()+p.named(name)+p.blank()+":"+p.blank()+value+p.blank())
	}
	return "{" + strings.Join(all, ",") + "}"
}

// named returns name as a JSON string, sometimes escaped or misspelled.
func (p payloads) named(name string) string {
	switch p.IntN(12) {
	case 0:
		return `"` + strings.ToUpper(name) + `"`
	case 1:
		return fmt.Sprintf(`"\u%04x%s"`, name[0], name[1:])
	case 2:
		return `"` + name + p.pick(" ", `\ud800`, `\u0000`, "\u017f", "\xff") + `"`
	}
	return `"` + name + `"`
}

func (p payloads) payload() string {
	all := []string{`"sub":` + p.pick(`"alice"`, `"alice"`, p.text())}
	for range p.IntN(6) {
		all = append(all, p.blank()+p.claim()+p.blank())
	}
	p.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	text := p.blank() + "{" + p.blank() + strings.Join(all, ",") + "}" + p.blank()
	if p.IntN(10) == 0 { // remove, duplicate or replace a byte
		i := p.IntN(len(text))
		text = text[:i] + p.pick("", text[i:i+1]+text[i:i+1], `"`, `\`, "{", "]", ",", ":", "\x00") + text[i+1:]
	}
	return text
}

func TestClaimsMatchEncodingJSON(t *testing.T) {
	j, p := newJWT(t, auth.Config{}), payloads{rand.New(rand.NewPCG(1, 2))}
	var users int
	problems := map[string]int{}
	const all = 5000
	for range all {
		payload := p.payload()
		if agree(t, j, payload) {
			users++
		} else {
			_, problem := reference(payload)
			problems[problem]++
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d users, %v", users, problems)
	// The comparison proves little if nearly all payloads are valid, or nearly all are invalid.
	if users < all/10 || users > all*9/10 || len(problems) < 12 {
		t.Errorf("got %d users from %d payloads and the problems %v, want 10 to 90 %% users and at least 12 problems", users, all, problems)
	}
}

// FuzzClaims compares Authenticate with reference for arbitrary payloads.
func FuzzClaims(f *testing.F) {
	p := payloads{rand.New(rand.NewPCG(3, 4))}
	for range 50 {
		f.Add(p.payload())
	}
	for _, payload := range slices.Concat(strings.Fields(`null [] 1 "a" {} {"sub":"a","":0,"x":{"sub":"b"}}`), []string{"", " null ", "\x00"}) {
		f.Add(payload)
	}
	j := newJWT(f, auth.Config{})
	f.Fuzz(func(t *testing.T, payload string) { agree(t, j, payload) })
}
