package backplane_test

import (
	"os"
	"os/exec"
	"testing"
)

// An engine can be implemented and tested in another module. vet compiles its tests too.
func TestThirdParty(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "vet", ".")
	cmd.Dir = "testdata/thirdparty"
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("go vet: %v\n%s", err, out)
	}
}
