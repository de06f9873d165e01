package doctor

import (
	"context"
	"slices"
	"sync"
	"time"
)

// check is a check of a run.
type check struct {
	name  string
	needs need
	run   func(context.Context, *exam) Verdict
}

// stages are the checks, in the order of their verdicts. The checks of a stage run side by side.
var stages = [][]check{
	{{"service", needNothing, checkService}},
	{
		{"problem", needServer, checkProblem},
		{"redirect", needServer, checkRedirect},
		{"host", needServer, checkHost},
		{"protocol", needServer, checkProtocol},
	},
	{{"token", needServer, checkToken}},
	{{"stream", needToken, checkStream}},
	{{"buffering", needStream, checkBuffering}},
	{
		{"cors", needServer, checkCORS},
		{"clock", needServer, checkClock},
		{"cookie", needToken, checkCookie},
		{"compression", needStream, checkCompression},
		{"resume", needDelivery, checkResume},
		{"idle", needDelivery, checkIdle},
		{"duration", needDelivery, checkDuration},
		{"leave", needDelivery, checkLeave},
	},
	{{"cache", needServer, checkCache}},
}

// Run runs all checks, for about Config.Watch. It calls report with each verdict as soon as it is
// known, one call at a time, and returns all verdicts in the order of the checks. The error is a
// *ConfigError, or that of ctx, which ends the run early. When Run returns, its connections are
// closed.
func Run(ctx context.Context, c Config, report func(Verdict)) ([]Verdict, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	x, err := newExam(c)
	if err != nil {
		return nil, err
	}
	defer x.close()
	// Each check has bounds of its own. This one limits the sum of their requests.
	bounded, cancel := context.WithTimeout(ctx, c.Watch+2*time.Minute)
	defer cancel()
	one := new(sync.Mutex) // held during report
	known := func(v Verdict) {
		one.Lock()
		defer one.Unlock()
		if ctx.Err() == nil {
			report(v)
		}
	}
	var all []Verdict
	for _, stage := range stages {
		for _, part := range x.split(stage) {
			all = append(all, x.examine(bounded, part, known)...)
		}
		if err := ctx.Err(); err != nil {
			return all, err
		}
	}
	return all, nil
}

// split returns the parts of a stage, one after the other. In a room that the run does not have to
// itself, the streams of other checks would change the count that leave observes.
func (x *exam) split(stage []check) [][]check {
	i := slices.IndexFunc(stage, func(c check) bool { return c.name == "leave" })
	if i < 0 || x.rooms.own {
		return [][]check{stage}
	}
	return [][]check{stage[i : i+1], slices.Delete(slices.Clone(stage), i, i+1)}
}

// examine runs checks side by side, and returns their verdicts in order.
func (x *exam) examine(ctx context.Context, checks []check, report func(Verdict)) []Verdict {
	verdicts := make([]Verdict, len(checks))
	var all sync.WaitGroup
	level, why := x.level, x.why
	for i, c := range checks {
		all.Go(func() { // ends with the check
			v := note("not run: %s", why)
			if c.needs <= level {
				v = c.run(ctx, x)
			}
			v.Check = c.name
			verdicts[i] = x.redact(v)
			report(verdicts[i])
		})
	}
	all.Wait()
	return verdicts
}
