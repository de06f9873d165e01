package nats

import "fmt"

// SettingError is the error of [Open] if the NATS servers have a stream or a bucket with other
// settings than this node, or cannot provide one with these settings. Retrying does not help.
type SettingError struct {
	// Field is the field of [Config] that differs, such as Replicas; empty if there is none.
	Field string
	// Value is the value of the field that the servers accept; nil if it is not known.
	Value any
	// Reason names the setting with both values, and the way to mend it.
	Reason string
}

// Error returns the reason.
func (e *SettingError) Error() string { return "nats: " + e.Reason }

func settingErrorf(format string, args ...any) error {
	return &SettingError{Reason: fmt.Sprintf(format, args...)}
}

func fieldErrorf(field string, value any, format string, args ...any) error {
	return &SettingError{Field: field, Value: value, Reason: fmt.Sprintf(format, args...)}
}
