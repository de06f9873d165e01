package main

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"example.com/presence/pkg/presence"
)

// If presence.New rejects a field that a flag sets, the error names that flag, and the flag exists.
func TestConfigErrorsNameTheFlag(t *testing.T) {
	// These fields need no entry in flagOf, because the command never sets them or any value is
	// valid.
	none := map[string]bool{"Authenticator": true, "Backplane": true, "ReadyNeedsBackplane": true, "Guest": true, "History": true, "HistoryRate": true, "CostRate": true, "DisableIOUring": true, "KeepHandler": true, "Cookie.Insecure": true,
		"ContentSecurityPolicy": true, // the default fits the page that the command serves
		"Web":                   true, "OnMessage": true, "OnJoin": true, "OnLeave": true, "Logger": true,
		"ProxyProtocol": true, "Metrics": true, "Observer": true}
	flags := flagDefaults(t)
	var fields []string
	for _, field := range reflect.VisibleFields(reflect.TypeFor[presence.Config]()) {
		if field.Type != reflect.TypeFor[presence.Cookie]() {
			if field.IsExported() {
				fields = append(fields, field.Name)
			}
			continue
		}
		for _, inner := range reflect.VisibleFields(field.Type) {
			fields = append(fields, "Cookie."+inner.Name)
		}
	}
	for _, field := range fields {
		if none[field] {
			continue
		}
		flag := flagOf[field]
		err := flagError(fmt.Errorf("presence: %w", &presence.ConfigError{Field: field, Reason: "is 1 to 2, not 3"}))
		if _, known := flags[flag]; !known || err.Error() != flag+" is 1 to 2, not 3" || !errors.As(err, new(usageError)) {
			t.Errorf("%s: got %q for flag %q, want a usage error that names a flag of serve", field, err, flag)
		}
	}
	if got := len(flagOf) + len(none); got != len(fields) {
		t.Errorf("flagOf has %d fields and %d have no flag, but Config has %d", len(flagOf), len(none), len(fields))
	}
	if err := flagError(errors.New("another error")); err.Error() != "another error" || !errors.As(err, new(usageError)) {
		t.Errorf("got %v, want a usage error with the same text", err)
	}
}
