//go:build race

package main

// raceFactor is how much more memory the race detector takes, about.
const raceFactor = 5
