package thirdparty

import (
	"testing"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/backplane/backplanetest"
)

func TestBus(t *testing.T) {
	backplanetest.Run(t, func(t *testing.T) backplanetest.Engine {
		return backplanetest.Engine{Nodes: []backplane.Bus{Bus{}}, Messages: 10}
	})
}
