// Package input reads what clients and tokens send: JSON objects by the exact names of their
// members, and text within limits. It is the one place of these rules, below all packages that have
// input; it imports the standard library only.
package input
