package backplane_test

import (
	"os"
	"os/exec"
	"testing"
)

// Another module can implement and test an engine. go vet also compiles the tests of that module.
func TestThirdParty(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "vet", ".")
	cmd.Dir = "testdata/thirdparty"
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("go vet: %v\n%s", err, out)
	}
}
