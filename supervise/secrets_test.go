package supervise_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

// main runs the job in a process of its own, to its end, as who says. It gives
// the exit code and what the process printed.
func (j *job) main(who *syscall.Credential) (code int, printed string) {
	j.t.Helper()
	if err := supervise.WriteSpec(j.dir, j.task); err != nil {
		j.t.Fatal(err)
	}
	program := os.Args[0]
	if who != nil { // the test's own program may lie where others can't read
		data, err := os.ReadFile(program)
		if err != nil {
			j.t.Fatal(err)
		}
		program = filepath.Join(j.dir, "narwhal")
		if err := os.WriteFile(program, data, 0o755); err != nil {
			j.t.Fatal(err)
		}
		for _, dir := range []string{j.dir, filepath.Dir(j.dir)} {
			if err := os.Chmod(dir, 0o777); err != nil {
				j.t.Fatal(err)
			}
		}
	}
	child := exec.CommandContext(j.t.Context(), program)
	child.Env = append(os.Environ(), mainEnv+"="+j.dir)
	child.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	out, err := child.CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		j.t.Fatal(err)
	}
	return child.ProcessState.ExitCode(), string(out)
}

// leaveSecrets is what versions of narwhal before this one did.
func leaveSecrets(dir string, values map[string]string) error {
	data, err := json.Marshal(values)
	path := filepath.Join(dir, supervise.SecretsFile)
	return errors.Join(err, os.WriteFile(path, data, 0o666), os.Chmod(path, 0o666))
}

func nobody(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("only root can become somebody else")
	}
	return &syscall.Credential{Uid: 65534, Gid: 65534}
}

func TestSecrets(t *testing.T) {
	const token, key = "tok-3n!&\"one", "-----BEGIN-----\nsecond line\n-----END-----\n"
	j := newJob(t,
		`echo "${TOKEN-none} $OTHER"; wc -c < secrets; cat secrets; env`,
		`echo "$TOKEN"; printf %s "$TOKEN" | base64; echo "$KEY" | sed 's/^/> /'; env | sort; printf 'tok-3n'; sleep 0.3; printf '!&"one'; echo`,
		`echo "${TOKEN-none}"; exit 3`)
	j.task.Steps[1].Secrets = []string{"TOKEN", "KEY", "MISSING"}
	j.task.Steps[1].Env = []string{"TOKEN=from the file"}
	j.task.Steps[2].Name = "says " + token
	if err := leaveSecrets(j.dir, map[string]string{"TOKEN": token, "KEY": key, "OTHER": "never named"}); err != nil {
		t.Fatal(err)
	}
	code, said := j.main(nil)
	o, ok := supervise.Outcome(j.records())
	expect(t, o, fsm.Failed, fsm.CauseFailure, 3, "step says ***: exit code 3")
	if !ok || code != 3 || said != "" {
		t.Errorf("exit code %d, said %q", code, said)
	}
	got := j.printed()
	for _, want := range []string{"0 none \n0 0\n", "1 ***\n", "1 > ***\n1 > ***\n1 > ***\n", "1 TOKEN=***\n", "2 none\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if !strings.Contains(j.said(), "there is no secret MISSING for this job") {
		t.Errorf("narwhal said %q", j.said())
	}
	log, err := os.ReadFile(j.log())
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{token, base64.StdEncoding.EncodeToString([]byte(token)), "second line", "never named"} {
		if strings.Contains(string(log), form) {
			t.Errorf("the log holds %q: %q", form, log)
		}
	}
}

func TestStepsCantReadTheSupervisor(t *testing.T) {
	who := nobody(t)
	j := newJob(t, `id -u; cat secrets; cat /proc/$PPID/environ || echo closed; cat /proc/$PPID/maps >/dev/null || echo closed
		dd if=/proc/$PPID/mem bs=1 count=1 2>/dev/null || echo closed; cat /proc/self/environ >/dev/null && echo own`)
	if err := leaveSecrets(j.dir, map[string]string{"TOKEN": "a token that is here"}); err != nil {
		t.Fatal(err)
	}
	code, said := j.main(who)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	got := j.printed()
	if !strings.Contains(got, "0 65534\n") || strings.Count(got, "0 closed\n") != 3 || strings.Count(got, "0 own\n") != 1 {
		t.Errorf("printed %q", got)
	}
}

func TestSecretsThatCantBeWiped(t *testing.T) {
	who := nobody(t)
	j := newJob(t, "echo ran")
	if err := leaveSecrets(j.dir, map[string]string{"TOKEN": "t0ken"}); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(j.dir, supervise.SecretsFile), 0o444); err != nil {
		t.Fatal(err)
	}
	j.main(who)
	o, ok := supervise.Outcome(j.records())
	expect(t, o, fsm.Errored, "", 0, "take secrets")
	if _, err := os.Stat(j.log()); !ok || err == nil {
		t.Errorf("a step ran: %+v", o)
	}
	for _, text := range []string{"no json", `{"a": 1}`} {
		j = newJob(t, "true")
		if err := os.WriteFile(filepath.Join(j.dir, supervise.SecretsFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		j.main(nil)
		o, _ = supervise.Outcome(j.records())
		expect(t, o, fsm.Errored, "", 0, "take secrets: the file holds no JSON object of texts")
	}
}

func TestSecretsWithinThisProcess(t *testing.T) {
	j := newJob(t, "echo $TOKEN", "echo ${TOKEN-none}")
	j.task.SecretValues = map[string]string{"TOKEN": "s3cret-value"}
	j.task.Steps[0].Secrets = []string{"TOKEN"}
	expect(t, j.run(t.Context()), fsm.Passed, "", 0, "")
	if got := j.printed(); got != "0 ***\n1 none\n" {
		t.Errorf("printed %q", got)
	}
	if data, err := os.ReadFile(j.journal()); err != nil || strings.Contains(string(data), "s3cret") {
		t.Errorf("the journal: %s, %v", data, err)
	}
}
