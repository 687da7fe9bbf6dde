package chaos

import (
	"testing"

	"github.com/codepr/narwhal/fsm"
)

func TestUnlinear(t *testing.T) {
	create := operation{what: "create", call: 0, back: 10, build: 5, status: fsm.Queued}
	read := func(call, back int64, build fsm.BuildID, status fsm.Status) operation {
		return operation{what: "read", call: call, back: back, build: build, status: status}
	}
	for _, tt := range []struct {
		name    string
		history []operation
		ok      bool
	}{
		{"it goes forward", []operation{create, read(11, 12, 5, fsm.Running), read(13, 14, 5, fsm.Passed), read(15, 16, 5, fsm.Passed)}, true},
		{"reads that overlap may see it in any order", []operation{create, read(11, 20, 5, fsm.Passed), read(12, 19, 5, fsm.Running)}, true},
		{"a later read sees less", []operation{create, read(11, 12, 5, fsm.Passed), read(13, 14, 5, fsm.Running)}, false},
		{"its end changes", []operation{create, read(11, 12, 5, fsm.Passed), read(13, 14, 5, fsm.Failed)}, false},
		{"what was accepted is not there", []operation{create, read(11, 12, 0, "")}, false},
		{"it is not there yet", []operation{create, read(1, 12, 0, "")}, true},
		{"one key makes two builds", []operation{create, {what: "create", call: 11, back: 12, build: 6, status: fsm.Queued}}, false},
		{"it was answered twice", []operation{create, {what: "create", call: 11, back: 12, build: 5, status: fsm.Running}}, true},
		{"a cancel is seen by who asks later", []operation{create, {what: "cancel", call: 11, back: 12, build: 5, status: fsm.Canceled}, read(13, 14, 5, fsm.Running)}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if bad := unlinear(tt.history); (len(bad) == 0) != tt.ok {
				t.Errorf("found %v", bad)
			}
		})
	}
	other := create
	other.order, other.build = 1, 6
	broken := read(11, 12, 7, fsm.Queued)
	broken.order = 1
	if bad := unlinear([]operation{create, other, broken}); len(bad) != 1 || bad[0] != 1 {
		t.Errorf("of two builds %v is found", bad)
	}
}
