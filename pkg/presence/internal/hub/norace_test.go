//go:build !race

package hub_test

const usualSeeds = 500
