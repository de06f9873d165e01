// Package input reads the input of clients and tokens: JSON objects by the exact names of their
// members, and text within limits. Every package with input takes these rules from here. It imports
// only the standard library.
package input
