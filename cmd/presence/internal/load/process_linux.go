package load

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// ticksPerSecond is the unit of times in /proc (USER_HZ), which is 100 on every architecture that
// Go supports.
const ticksPerSecond = 100

// usageOfProcess returns the usage of a process (proc_pid_stat(5)).
func usageOfProcess(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	_, after, _ := bytes.Cut(stat, []byte(") ")) // the name before may contain spaces
	fields := bytes.Fields(after)
	if len(fields) < 22 {
		return usage{}, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	number := func(index int) int64 { // index as in the manual, from 1
		n, _ := strconv.ParseInt(string(fields[index-3]), 10, 64)
		return n
	}
	return usage{
		cpu: time.Duration(number(14)+number(15)) * time.Second / ticksPerSecond,
		rss: number(24) * int64(os.Getpagesize()),
	}, nil
}
