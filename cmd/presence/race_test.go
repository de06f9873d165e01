//go:build race

package main

// raceFactor is the approximate factor by which the race detector increases memory use.
const raceFactor = 5
