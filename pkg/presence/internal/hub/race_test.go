//go:build race

package hub_test

// usualSeeds is the number of seeds of TestSimulate. With the race detector, a seed takes eight
// times as long.
const usualSeeds = 100
