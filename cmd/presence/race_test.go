//go:build race

package main

// raceFactor is by how much the race detector multiplies the use of memory, roughly.
const raceFactor = 5
