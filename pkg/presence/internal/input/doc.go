// Package input parses the input of clients and tokens. It matches the fields of JSON objects by
// their exact names and checks text against limits. Every package that accepts input uses these
// rules. The package imports only the standard library.
package input
