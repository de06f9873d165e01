package backplanetest

import (
	"testing"
	"testing/synctest"
)

// checks contains one check for each part of the contract.
var checks = []check{
	{"Status", checkStatus},
	{"Publish", checkPublish},
	{"Ask", checkAsk},
	{"AskTimeout", checkAskTimeout},
	{"Cancel", checkCancel},
	{"Append", checkAppend},
	{"Keys", checkKeys},
	{"NoKey", checkNoKey},
	{"KeyAge", checkKeyAge},
	{"Complete", checkComplete},
	{"Clear", checkClear},
	{"Join", checkJoin},
	{"Table", checkTable},
	{"Expiry", checkExpiry},
	{"Drop", checkDrop},
	{"Recreate", checkRecreate},
	{"Context", checkContext},
	{"Close", checkClose},
}

// Run tests an engine. It calls open once per check, in a subtest named after the check. open must
// use t.Cleanup to stop everything that it starts.
func Run(t *testing.T, open func(t *testing.T) Engine) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { report(t, c, open(t)) })
	}
}

// RunInBubble tests an engine within testing/synctest. Waiting takes no real time there, so
// RunInBubble also runs the checks that wait for minutes. open must use t.Cleanup to stop
// everything that it starts.
func RunInBubble(t *testing.T, open func(t *testing.T) Engine) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := open(t)
				e.Patient = true
				report(t, c, e)
			})
		})
	}
}

func report(t *testing.T, c check, e Engine) {
	t.Helper()
	for _, failure := range c.try(t.Context(), e) {
		t.Error(failure)
	}
}
