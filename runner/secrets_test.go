package runner

import (
	"encoding/json"
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

// TestSecretsInReports hides them in what tests say, also where another start of the
// node takes the job's reports; what can't be hidden is not shown at all.
func TestSecretsInReports(t *testing.T) {
	for name, c := range map[string]struct {
		restart bool
		unseal  bool // which the second start can
		fork    bool
		text    string
	}{
		"at once":          {unseal: true, text: "*** is wrong"},
		"after a restart":  {restart: true, unseal: true, text: "*** is wrong"},
		"with another key": {restart: true},
		"of a fork":        {restart: true, fork: true, text: "hunter22 is wrong"}, // which it was not given
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.adjust = func(c *Config) { unsealing(c); c.LeaveRunning = true }
			n.start()
			a := ref(1, 1, 7)
			wanted := job(a, func(j *pipeline.Job) {
				j.Secrets, j.Artifacts = []string{"TOKEN"}, &pipeline.Artifacts{JUnit: []string{"*.xml"}}
			})
			wanted.Work.Secrets = map[string][]byte{"TOKEN": []byte("acme/api|TOKEN|hunter22")}
			wanted.Work.Commit.Fork = c.fork
			n.leader.want(wanted)
			run := n.m.awaitRun(t, a)
			w := newKeptWorld(t)
			w.leave(run.task, executor.JUnitFile, map[string]string{
				"r.xml":        `<testsuite name="of hunter22"><testcase name="a hunter22"><failure>hunter22 is wrong</failure></testcase></testsuite>`,
				"hunter22.xml": `none`,
			})
			if c.restart {
				n.end()
				n.adjust = func(cfg *Config) {
					if cfg.LeaveRunning = true; c.unseal {
						unsealing(cfg)
					}
				}
				n.start()
			}
			n.m.exit(a, fsm.Outcome{Status: fsm.Failed, Cause: fsm.CauseFailure})
			r := n.leader.awaitOutcome(t, a).Tests
			n.settled()
			n.end()
			if r == nil || r.Failed != 1 {
				t.Fatalf("the reports are %+v", r)
			}
			data, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if shown := strings.Contains(string(data), "hunter22"); shown != c.fork {
				t.Errorf("shown: %v in %s", shown, data)
			}
			if c.text == "" && (len(r.Failures) > 0 || len(r.Broken) != 1) || c.text != "" && r.Failures[0].Text != c.text {
				t.Errorf("it says %s", data)
			}
		})
	}
}
