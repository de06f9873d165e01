//go:build race

package hub_test

// simDefaultSeeds is the default number of seeds of TestSimulate. With the race detector a seed
// takes seven times the CPU time, so that make test has fewer; make test-long has 500.
const simDefaultSeeds = 120
