//go:build !race

package presence_test

const modelRuns = 10
