//go:build !race

package hub_test

// simDefaultSeeds is the default number of seeds of TestSimulate.
const simDefaultSeeds = 500
