package load

// usageOf returns the usage of all processes together.
func usageOf(pids []int) (u usage, err error) {
	for _, pid := range pids {
		one, err := usageOfProcess(pid)
		if err != nil {
			return usage{}, err
		}
		u.cpu += one.cpu
		u.rss += one.rss
	}
	return u, nil
}
