package runner

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// unsealing opens what is "sealed" for the repository, or for all, under its name.
func unsealing(c *Config) {
	c.Unseal = func(repo, name string, sealed []byte) (string, error) {
		value, ok := strings.CutPrefix(string(sealed), repo+"|"+name+"|")
		if !ok {
			return "", errors.New("the seal is broken")
		}
		return value, nil
	}
}

func naming(j *pipeline.Job) {
	j.Secrets = []string{"ALL", "OWN"}
	j.Steps[0].Secrets = []string{"STEP", "OWN"}
}

func TestSecrets(t *testing.T) {
	sealed := map[string][]byte{
		"ALL": []byte("|ALL|for everybody"), "OWN": []byte("acme/api|OWN|for one"), "STEP": []byte("acme/api|STEP|for a step"),
		"OTHER": []byte("acme/api|OTHER|that nobody names"),
	}
	registries := map[string][]byte{"r.example.org": []byte(`acme/api|registry/r.example.org|{"username":"ci","password":"pass"}`)}
	without := func(name string) map[string][]byte {
		less := maps.Clone(sealed)
		delete(less, name)
		return less
	}
	for name, c := range map[string]struct {
		sealed map[string][]byte
		fork   bool
		want   map[string]string
		says   string // instead
	}{
		"all there":      {sealed: sealed, want: map[string]string{"ALL": "for everybody", "OWN": "for one", "STEP": "for a step"}},
		"one is missing": {sealed: without("STEP"), says: "secret STEP: not in the cluster's store: set it with `narwhal secret set STEP --repo acme/api`"},
		"a fork's":       {sealed: sealed, fork: true, want: nil},
		"another's seal": {sealed: map[string][]byte{"ALL": []byte("other/api|ALL|x"), "OWN": sealed["OWN"], "STEP": sealed["STEP"]}, says: "secret ALL: the seal is broken"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.adjust = unsealing
			n.start()
			a := ref(1, 1, 7)
			wanted := job(a, naming)
			wanted.Work.Secrets, wanted.Work.Registries, wanted.Work.Commit.Fork = c.sealed, registries, c.fork
			n.leader.want(wanted)
			if c.says != "" {
				if o := n.leader.awaitOutcome(t, a); o.Status != fsm.Errored || o.Cause != fsm.CauseConfig || !strings.Contains(o.Message, c.says) {
					t.Errorf("outcome is %+v", o)
				}
			} else {
				run := n.m.awaitRun(t, a)
				if !maps.Equal(run.task.Secrets, c.want) {
					t.Errorf("given %v", run.task.Secrets)
				}
				credentials := map[string]executor.Credentials{"r.example.org": {Username: "ci", Password: "pass"}}
				if c.fork {
					credentials = nil
				}
				if !maps.Equal(run.task.Registries, credentials) {
					t.Errorf("given other credentials")
				}
				n.m.exit(a, passed())
			}
			n.settled()
			n.end()
		})
	}
}
