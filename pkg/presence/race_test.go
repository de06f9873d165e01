//go:build race

package presence_test

// modelRuns is the number of runs of TestModel. With the race detector, a run takes seven times as
// long.
const modelRuns = 4
