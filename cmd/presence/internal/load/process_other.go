//go:build !linux

package load

import "errors"

func usageOfProcess(int) (usage, error) {
	return usage{}, errors.New("CPU time and memory of a process can be measured on Linux only")
}
