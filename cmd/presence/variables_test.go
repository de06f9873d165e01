package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestUnknownVariables(t *testing.T) {
	parser, err := newParser(t.Context(), env{}.process("", nil, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	for variable, want := range map[string][]unknownVariable{
		"PRESENCE_LISTN=:1":                       {{"PRESENCE_LISTN", "PRESENCE_LISTEN"}},
		"PRESENCE_JWT_SECERT=x":                   {{"PRESENCE_JWT_SECERT", "PRESENCE_JWT_SECRET"}},
		"PRESENCE_JWT_SECRETFILE=x":               {{"PRESENCE_JWT_SECRETFILE", "PRESENCE_JWT_SECRET_FILE"}},
		"PRESENCE_CORS_ORIGINS=*":                 {{"PRESENCE_CORS_ORIGINS", "PRESENCE_CORS_ORIGIN"}},
		"PRESENCE_MAXCONNECTIONS=1":               {{"PRESENCE_MAXCONNECTIONS", "PRESENCE_MAX_CONNECTIONS"}},
		"PRESENCE_NODE_NAME=x":                    {{"PRESENCE_NODE_NAME", ""}},
		"PRESENCE_PORT=8080":                      {{"PRESENCE_PORT", ""}},
		"PRESENCE_HELP=1":                         {{"PRESENCE_HELP", ""}},
		"PRESENCE_=1":                             {{"PRESENCE_", ""}},
		"PRESENCE_listen=:1":                      {{"PRESENCE_listen", ""}},
		"PRESENCE_LISTN=":                         nil, // an empty variable counts as unset
		"PRESENCE_LISTEN=:1":                      nil,
		"PRESENCE_SUB=alice":                      nil, // a variable of token, not of serve
		"PRESENCE_URL=http://a":                   nil,
		"MY_PRESENCE_LISTN=:1":                    nil,
		"PRESENCES=1":                             nil,
		"PRESENCE_TEST_LONG=1":                    nil,
		"PRESENCE_BENCH_CHURN=5m":                 nil,
		"PRESENCE_SCREENSHOTS=1":                  nil,
		"PRESENCE_SERVICE_HOST=::1":               nil, // from Kubernetes, for a service named presence with a port named http
		"PRESENCE_SERVICE_PORT=8080":              nil,
		"PRESENCE_SERVICE_PORT_HTTP=8080":         nil,
		"PRESENCE_PORT=tcp://10.0.0.1:8080":       nil,
		"PRESENCE_PORT_8080_TCP_PROTO=tcp":        nil,
		"PRESENCE_PORT_8080_TCP=tcp://10.0.0.1:1": nil,
		"PRESENCE_REDIS_SERVICE_HOST=10.0.0.2":    nil,
		"PRESENCE_REDIS_PORT=tcp://10.0.0.2:6379": nil,
	} {
		if got := unknownVariables(parser.Model, []string{"HOME=/", variable}); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", variable, got, want)
		}
	}
	got := unknownVariables(parser.Model, []string{"PRESENCE_B=1", "PRESENCE_A=1", "odd"})
	if want := []unknownVariable{{"PRESENCE_A", ""}, {"PRESENCE_B", ""}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// An unknown variable causes a warning, not an error. The warning does not contain the value,
// because the value may be a secret.
func TestUnknownVariablesAreWarnings(t *testing.T) {
	const line = "presence: warning: unknown environment variable PRESENCE_LISTN, did you mean PRESENCE_LISTEN?\n"
	e := env{"PRESENCE_LISTN": "not to be seen", "PRESENCE_JWT_SECRET": secret}
	for args, want := range map[string]struct {
		stderr string
		exit   int
	}{
		"token --sub alice": {line, 0},
		"token":             {line + "presence: missing flags: --sub=USER\n", 2},
		"version":           {"", 0},
		"--version":         {"", 0},
		"--help":            {"", 0},
	} {
		if _, stderr, exit := command(t, e, strings.Fields(args)...); stderr != want.stderr || exit != want.exit {
			t.Errorf("%s: exit status %d\ngot  %s\nwant %s", args, exit, stderr, want.stderr)
		}
	}

	_, stderr, exit := command(t, e, "serve", "--check", "--log-format=json")
	var logged struct {
		Level, Msg, Name string
		Meant            string `json:"did_you_mean"`
	}
	err := json.Unmarshal([]byte(stderr), &logged)
	if err != nil || exit != 0 || logged.Level != "WARN" || logged.Name != "PRESENCE_LISTN" || logged.Meant != "PRESENCE_LISTEN" {
		t.Errorf("serve: exit status %d, %v\n%s", exit, err, stderr)
	}
	if strings.Contains(stderr, "not to be seen") {
		t.Errorf("the value is logged:\n%s", stderr)
	}

	// A misspelled key variable causes the warning, and also the error about the missing key.
	_, stderr, exit = command(t, env{"PRESENCE_JWT_SECERT": secret}, "serve")
	if exit != 2 || !strings.Contains(stderr, "did_you_mean=PRESENCE_JWT_SECRET") || !strings.Contains(stderr, "presence: no token verification key") || strings.Contains(stderr, secret) {
		t.Errorf("serve: exit status %d\n%s", exit, stderr)
	}
}

func TestEdits(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"abc", "abc", 0}, {"kitten", "sitting", 3}, {"ab", "ba", 2}, {"abc", "axbc", 1},
	} {
		if got := edits(tt.a, tt.b); got != tt.want {
			t.Errorf("%q to %q: got %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
