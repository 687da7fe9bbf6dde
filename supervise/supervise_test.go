package supervise_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
	"github.com/codepr/narwhal/supervise"
)

// mainEnv makes this test binary a job's first process.
const mainEnv = "SUPERVISE_TEST_MAIN"

// satelliteEnv makes it a satellite named sat.
const satelliteEnv = "SUPERVISE_TEST_SATELLITE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(mainEnv); dir != "" {
		os.Exit(supervise.Main(context.Background(), dir, []string{"PATH=/usr/bin:/bin", "BELOW=image", "OVER=image"}))
	}
	if dir := os.Getenv(satelliteEnv); dir != "" {
		os.Exit(supervise.Satellite(context.Background(), "sat", dir, []string{"PATH=/usr/bin:/bin", "BELOW=satellite", "OVER=satellite"}))
	}
	if dir := os.Getenv(runEnv); dir != "" {
		os.Exit(runBesideAnother(dir))
	}
	goleak.VerifyTestMain(m)
}

// runEnv makes it a narwhal that runs a job within itself, beside another's process.
const runEnv = "SUPERVISE_TEST_RUN"

// runBesideAnother gives 0 where the other's process outlives the job.
func runBesideAnother(dir string) int {
	other := exec.Command("sleep", "600")
	if err := other.Start(); err != nil {
		panic(err)
	}
	task := supervise.Task{Dir: dir, Env: []string{"PATH=/usr/bin:/bin"}, Steps: []supervise.Step{{Name: "s", Command: []string{"echo $PPID"}}}}
	o, err := supervise.Run(context.Background(), task, filepath.Join(dir, supervise.LogFile), filepath.Join(dir, supervise.JournalFile))
	if err != nil || o.Status != fsm.Passed || os.Getpid() != 1 {
		return 2
	}
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(other.Process.Pid, &status, syscall.WNOHANG, nil); pid != 0 || err != nil {
		return 3
	}
	return 0
}

// TestNarwhalIsTheFirstProcess: a narwhal that runs jobs as processes may be the first of
// a container itself. A job's end is not that of all that runs there.
func TestNarwhalIsTheFirstProcess(t *testing.T) {
	nobody(t) // it takes root
	j := newJob(t)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), runEnv+"="+j.dir)
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := j.printed(); got != "0 1\n" {
		t.Errorf("printed %q", got)
	}
}

// job is a run in a folder of its own.
type job struct {
	t    *testing.T
	dir  string
	task supervise.Task
}

func newJob(t *testing.T, commands ...string) *job {
	t.Helper()
	j := &job{t: t, dir: t.TempDir()}
	j.task = supervise.Task{Dir: j.dir, Env: []string{"PATH=/usr/bin:/bin"}, Grace: 5 * time.Second}
	for i, c := range commands {
		j.task.Steps = append(j.task.Steps, supervise.Step{Name: fmt.Sprintf("s%d", i), Command: []string{c}})
	}
	return j
}

func (j *job) log() string     { return filepath.Join(j.dir, supervise.LogFile) }
func (j *job) journal() string { return filepath.Join(j.dir, supervise.JournalFile) }

func (j *job) run(ctx context.Context) fsm.Outcome {
	j.t.Helper()
	o, err := supervise.Run(ctx, j.task, j.log(), j.journal())
	if err != nil {
		j.t.Fatal(err)
	}
	recorded, ok := supervise.Outcome(j.records())
	if !ok || recorded.Status != o.Status || recorded.Message != o.Message || len(recorded.Steps) != len(o.Steps) {
		j.t.Errorf("the journal says %+v (%v), Run %+v", recorded, ok, o)
	}
	return o
}

func (j *job) records() []supervise.Record {
	j.t.Helper()
	records, err := supervise.ReadJournal(j.journal())
	if err != nil {
		j.t.Fatal(err)
	}
	return records
}

// printed is what the steps printed, each line with its step before it.
func (j *job) printed() string {
	j.t.Helper()
	lines, err := joblog.Read(j.log(), 0, 0)
	if err != nil {
		j.t.Fatal(err)
	}
	var b strings.Builder
	for _, l := range lines {
		if l.Step >= 0 {
			fmt.Fprintf(&b, "%d %s\n", l.Step, l.Text)
		}
	}
	return b.String()
}

// until follows the log to a line that a step prints.
func (j *job) until(ctx context.Context, text string) {
	for line, err := range joblog.Follow(ctx, j.log(), 0, nil) {
		if err != nil {
			j.t.Errorf("waiting for %q: %v", text, err)
			return
		}
		if line.Step >= 0 && line.Text == text {
			return
		}
	}
}

func expect(t *testing.T, o fsm.Outcome, status fsm.Status, cause fsm.Cause, exit int, message string) {
	t.Helper()
	if o.Status != status || o.Cause != cause || o.ExitCode != exit || !strings.Contains(o.Message, message) {
		t.Errorf("got %s, cause %q, exit code %d, %q; want %s, %q, %d, %q",
			o.Status, o.Cause, o.ExitCode, o.Message, status, cause, exit, message)
	}
}

func TestStepsRunInOrder(t *testing.T) {
	j := newJob(t, "echo out; echo err >&2; echo $A$B; pwd", "printf 'no end'; cat", "nohup true; echo $0 $-; id -u >/dev/null")
	j.task.Env = append(j.task.Env, "A=a", "B=wrong", "B=b")
	j.task.Steps[2].Env = []string{"A=other"}
	j.task.Steps[2].Command = append(j.task.Steps[2].Command, "echo $A")
	o := j.run(t.Context())
	expect(t, o, fsm.Passed, "", 0, "")
	if got, want := j.printed(), "0 out\n0 err\n0 ab\n0 "+j.dir+"\n1 no end\n"; !strings.HasPrefix(got, want) {
		t.Errorf("printed %q, want %q and more", got, want)
	}
	if !strings.HasSuffix(j.printed(), "2 other\n") {
		t.Errorf("printed %q", j.printed())
	}
	if len(o.Steps) != 3 || o.Steps[2].Status != fsm.Passed || o.Steps[2].EndedAt.Before(o.Steps[0].StartedAt) || o.LogBytes == 0 {
		t.Errorf("steps %+v, %d bytes of log", o.Steps, o.LogBytes)
	}
}

func TestNothingOfThisProcessLeaks(t *testing.T) {
	t.Setenv("NARWHAL_TEST_SECRET", "leaked")
	j := newJob(t, "env; ls -l /proc/self/fd")
	j.run(t.Context())
	if got := j.printed(); strings.Contains(got, "leaked") || strings.Contains(got, supervise.JournalFile) {
		t.Errorf("printed %q", got)
	}
}

func TestFirstFailureEndsTheJob(t *testing.T) {
	j := newJob(t, "echo one; false; echo not reached", "echo later")
	expect(t, j.run(t.Context()), fsm.Failed, fsm.CauseFailure, 1, "step s0: exit code 1")
	if got := j.printed(); got != "0 one\n" {
		t.Errorf("printed %q", got)
	}
	expect(t, newJob(t, "exit 42").run(t.Context()), fsm.Failed, fsm.CauseFailure, 42, "exit code 42")
	expect(t, newJob(t, "kill -9 $$").run(t.Context()), fsm.Failed, fsm.CauseFailure, 137, "killed by signal 9")
	expect(t, newJob(t, "no-such-command").run(t.Context()), fsm.Failed, fsm.CauseFailure, 127, "exit code 127")
}

func TestWhatCannotBeRun(t *testing.T) {
	j := newJob(t, "true")
	j.task.Dir = filepath.Join(j.dir, "gone")
	expect(t, j.run(t.Context()), fsm.Errored, "", 0, "working directory")
	j = newJob(t, "true")
	j.task.Shell, j.task.Where = "no-such-shell", "image scratch"
	expect(t, j.run(t.Context()), fsm.Errored, fsm.CauseConfig, 0, "image scratch has no no-such-shell in its PATH: a step needs a shell")
	expect(t, newJob(t, strings.Repeat("x", 200<<10)).run(t.Context()), fsm.Errored, fsm.CauseConfig, 0, "longer than")
}

func TestTimeouts(t *testing.T) {
	j := newJob(t, "echo one", "sleep 600", "echo three")
	j.task.Steps[1].Timeout = 50 * time.Millisecond
	expect(t, j.run(t.Context()), fsm.Failed, fsm.CauseTimeout, 143, "step s1: it took longer than its timeout of 50ms")
	j = newJob(t, "trap 'exit 0' TERM; sleep 600 & wait")
	j.task.Steps[0].Timeout = 2 * time.Second // the trap has to be set by then, on a busy machine too
	expect(t, j.run(t.Context()), fsm.Failed, fsm.CauseTimeout, 0, "step s0: it took longer than its timeout of 2s")
	j = newJob(t, "sleep 600", "echo two")
	j.task.Timeout = time.Second
	expect(t, j.run(t.Context()), fsm.Failed, fsm.CauseTimeout, 143, "the job took longer than its timeout of 1s")
}

func TestCancel(t *testing.T) {
	for name, c := range map[string]struct {
		command string
		exit    int
		printed string
	}{
		"by itself": {"echo up; sleep 600", 143, "0 up\n"},
		"obedient":  {"trap 'echo tidy; exit 0' TERM; sleep 600 & echo up; wait", 0, "0 up\n0 tidy\n"},
		"handler":   {"trap 'echo tidy; exit 3' TERM; sleep 600 & echo up; wait", 3, "0 up\n0 tidy\n"},
		"child's":   {"sh -c 'trap \"sleep 0.2; echo tidy; exit 0\" TERM; echo up; sleep 600 & wait' & wait", 143, "0 up\n0 tidy\n"},
		"ignored":   {"trap '' TERM; echo up; sleep 600; sleep 600", 137, "0 up\n"},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJob(t, c.command, "echo later")
			if name == "obedient" { // no later step shows that it was stopped
				j = newJob(t, c.command)
			}
			if name == "ignored" {
				j.task.Grace = 100 * time.Millisecond
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				j.until(ctx, "up")
				cancel()
			}()
			o := j.run(ctx)
			<-ended
			expect(t, o, fsm.Canceled, fsm.CauseCanceled, c.exit, "canceled")
			if got := j.printed(); got != c.printed {
				t.Errorf("printed %q, want %q", got, c.printed)
			}
		})
	}
}

func TestPartialLinesAndOrder(t *testing.T) {
	j := newJob(t, "printf half; while [ ! -e go ]; do :; done; echo ' more'")
	go func() {
		j.until(t.Context(), "half") // is there while the line has not ended
		if err := os.WriteFile(filepath.Join(j.dir, "go"), nil, 0o600); err != nil {
			t.Error(err)
		}
	}()
	expect(t, j.run(t.Context()), fsm.Passed, "", 0, "")
	if got := j.printed(); got != "0 half\n0  more\n" {
		t.Errorf("printed %q", got)
	}
	j = newJob(t, "i=0; while [ $i -lt 500 ]; do echo $i; i=$((i+1)); echo $i >&2; i=$((i+1)); done")
	j.run(t.Context())
	for i, line := range strings.Split(strings.TrimSpace(j.printed()), "\n") {
		if line != "0 "+strconv.Itoa(i) {
			t.Fatalf("line %d is %q", i, line)
		}
	}
}

func TestLogLimitDoesNotStopTheJob(t *testing.T) {
	j := newJob(t, "yes | head -c 3000000; echo done > done")
	j.task.LogLimit = 10_000
	expect(t, j.run(t.Context()), fsm.Passed, "", 0, "")
	if _, err := os.Stat(filepath.Join(j.dir, "done")); err != nil {
		t.Error(err)
	}
	lines, err := joblog.Read(j.log(), 0, 0)
	if err != nil || !strings.Contains(lines[len(lines)-1].Text, "limit of 10000 bytes") {
		t.Errorf("the last line is %+v, %v", lines[len(lines)-1], err)
	}
}

func TestWhatIsLeftBehindIsKilled(t *testing.T) {
	for name, spawn := range map[string]string{
		"in its group":       "sleep 600 & echo $!",
		"silent":             "sleep 600 >/dev/null 2>&1 & echo $!",
		"in another session": "setsid sh -c 'echo $$ > pid; echo $$; exec sleep 600' & while [ ! -s pid ]; do :; done",
		"silent elsewhere":   "setsid sh -c 'echo $$ > pid; exec sleep 600' >/dev/null 2>&1 & while [ ! -s pid ]; do :; done; cat pid",
	} {
		t.Run(name, func(t *testing.T) {
			mark := fmt.Sprintf("MARK=%s-%d", name, os.Getpid())
			j := newJob(t, spawn, "true")
			j.task.Env = append(j.task.Env, mark)
			j.task.Marks = []string{mark}
			expect(t, j.run(t.Context()), fsm.Passed, "", 0, "")
			_, text, _ := strings.Cut(j.printed(), " ")
			pid, err := strconv.Atoi(strings.TrimSpace(text))
			if err != nil {
				t.Fatalf("printed %q", j.printed())
			}
			waitGone(t, pid)
		})
	}
}

func TestBackgroundServesTheNextStep(t *testing.T) {
	j := newJob(t, "(while [ ! -e ask ]; do :; done; echo answer) & true", "touch ask; wait; while ! grep -q answer log; do :; done")
	expect(t, j.run(t.Context()), fsm.Passed, "", 0, "")
	if got := j.printed(); got != "0 answer\n" {
		t.Errorf("printed %q", got)
	}
}

// waitGone waits until no process, or a zombie, has the number.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(data), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there: %s", pid, data)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestRecordedSessionsAreFound(t *testing.T) {
	j := newJob(t, "sleep 600 & echo $!; sleep 600")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan fsm.Outcome)
	go func() { done <- j.run(ctx) }()
	for line, err := range joblog.Follow(ctx, j.log(), 0, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if pid, err := strconv.Atoi(line.Text); err == nil && line.Step == 0 {
			defer waitGone(t, pid)
			break
		}
	}
	records := j.records()
	stale := append([]supervise.Record{}, records...)
	for i := range stale {
		stale[i].Start++ // the number was given out again: another process
	}
	if n, err := supervise.KillAll(supervise.Recorded(stale)); n != 0 || err != nil {
		t.Errorf("killed %d of another's, %v", n, err)
	}
	if n, err := supervise.KillAll(supervise.Recorded(records)); n < 2 || err != nil {
		t.Errorf("killed %d, %v", n, err)
	}
	expect(t, <-done, fsm.Failed, fsm.CauseFailure, 137, "killed by signal 9")
}

func TestDependencies(t *testing.T) {
	// fake installers note how they are called, argument by argument.
	fake := func(t *testing.T, names ...string) *job {
		j := newJob(t, "true", "true")
		for _, name := range names {
			text := "#!/bin/sh\necho " + name + ": \"$#\" \"$@\"\n[ ! -e refuse ]\n"
			if err := os.WriteFile(filepath.Join(j.dir, name), []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		j.task.Env = []string{"PATH=" + j.dir}
		j.task.Shell, j.task.Where, j.task.Install = "/bin/sh", "image x", true
		for i := range j.task.Steps {
			j.task.Steps[i].Command = []string{":"}
			j.task.Steps[i].Dependencies = []string{"git", "libc++-dev"}
		}
		return j
	}
	j := fake(t, "apt-get", "zypper")
	expect(t, j.run(t.Context()), fsm.Passed, "", 0, "")
	install := "apt-get: 6 -q install -y --no-install-recommends git libc++-dev\n"
	if got, want := j.printed(), "0 apt-get: 2 -q update\n0 "+install+"1 "+install; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	j = fake(t, "apk", "git")
	j.run(t.Context())
	if got, want := j.printed(), "0 apk: 3 add --no-cache libc++-dev\n1 apk: 3 add --no-cache libc++-dev\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	j = fake(t, "dnf", "refuse")
	expect(t, j.run(t.Context()), fsm.Failed, fsm.CauseFailure, 1, "step s0: dnf could not install git, libc++-dev: exit code 1")
	j = fake(t)
	expect(t, j.run(t.Context()), fsm.Errored, fsm.CauseConfig, 0, "image x has nothing to install git, libc++-dev with")
	j = fake(t, "git", "libc++-dev")
	expect(t, j.run(t.Context()), fsm.Passed, "", 0, "")
	j = fake(t, "apk")
	j.task.Install = false
	expect(t, j.run(t.Context()), fsm.Errored, fsm.CauseConfig, 0, "installs no packages")
	for _, name := range []string{"-o=x", "../x", "a b", "$(id)", "", "http://x", "a;b"} {
		j = fake(t, "apk")
		j.task.Steps[0].Dependencies = []string{name}
		expect(t, j.run(t.Context()), fsm.Errored, fsm.CauseConfig, 0, "is not the name of a package")
		if j.printed() != "" {
			t.Errorf("%q was handed on: %s", name, j.printed())
		}
	}
}

func TestMainRunsTheSpec(t *testing.T) {
	j := newJob(t, "echo $BELOW $OVER", "trap 'exit 9' TERM; echo up; sleep 600 & wait")
	j.task.Env = []string{"OVER=task"}
	if err := supervise.WriteSpec(j.dir, j.task); err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), mainEnv+"="+j.dir)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	j.until(t.Context(), "up")
	if err := child.Process.Signal(supervise.StopSignal); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); child.ProcessState.ExitCode() != 9 {
		t.Errorf("exit code %d, %v", child.ProcessState.ExitCode(), err)
	}
	o, ok := supervise.Outcome(j.records())
	expect(t, o, fsm.Canceled, fsm.CauseCanceled, 9, "canceled")
	if !ok || j.printed() != "0 image task\n1 up\n" {
		t.Errorf("printed %q", j.printed())
	}
}

// TestSignalsOfTheStepsEndNothing: a step may signal the job's first process, as the
// same user. Its own processes get signals as ever.
func TestSignalsOfTheStepsEndNothing(t *testing.T) {
	j := newJob(t, "for s in HUP INT QUIT TERM USR1 USR2 ALRM ABRT PIPE SEGV BUS TRAP SYS XCPU IO; do kill -$s $PPID; done; echo on",
		"trap 'echo hung up' HUP; kill -HUP $$; sh -c 'kill -INT $$' || echo interrupted")
	code, said := j.main(nil)
	o, ok := supervise.Outcome(j.records())
	expect(t, o, fsm.Passed, "", 0, "")
	if got := j.printed(); !ok || code != 0 || said != "" || got != "0 on\n1 hung up\n1 interrupted\n" {
		t.Errorf("exit code %d, said %q, printed %q", code, said, got)
	}
}

func TestHostileJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	text := `{"kind":"end","outcome":{"status":"passed","plan":{"name":"x"},"artifacts":{"files":1},"peak_memory":-1,"message":"` + strings.Repeat("m", 9000) + `"}}
not json
{"kind":"end","outcome":{"status":"running"}}
{"kind":"end"}
{"kind":"step","result":{"status":"x"}}
{"kind":"nonsense"}
{"kind":"end","outcome":{"status":"fai`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	records, err := supervise.ReadJournal(path)
	if err != nil || len(records) != 1 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	o, ok := supervise.Outcome(records)
	if !ok || o.Plan != nil || o.Artifacts != nil || o.PeakMemory != 0 || o.Status != fsm.Passed || len(o.Message) > 4096 {
		t.Errorf("got %+v", o)
	}
}

// TestJournalOfForgedWords: a job can write what it likes, and what is shown to people
// and decided by is of the words that there are.
func TestJournalOfForgedWords(t *testing.T) {
	for text, want := range map[string]int{
		`{"kind":"end","outcome":{"status":"failed","cause":"rejected"}}`:                                            1,
		`{"kind":"end","outcome":{"status":"failed","cause":"failure","steps":[{"status":"failed","cause":"oom"}]}}`: 1,
		`{"kind":"step","result":{"status":"skipped"}}`:                                                              1,
		`{"kind":"end","outcome":{"status":"failed","cause":"<b>aliens</b>"}}`:                                       0,
		`{"kind":"end","outcome":{"status":"failed","steps":[{"status":"failed","cause":"aliens"}]}}`:                0,
		`{"kind":"end","outcome":{"status":"skipped"}}`:                                                              0,
		`{"kind":"end","outcome":{"status":"passed","cause":"replaced"}}`:                                            0,
		`{"kind":"step","result":{"status":"failed","cause":"aliens"}}`:                                              0,
		`{"kind":"step","result":{"status":"failed","cause":"needs"}}`:                                               0,
	} {
		path := filepath.Join(t.TempDir(), "journal")
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if records, err := supervise.ReadJournal(path); err != nil || len(records) != want {
			t.Errorf("%s: %d records, want %d, %v", text, len(records), want, err)
		}
	}
}

// TestPeakIsTheStepsOwn: what a process starts has the most that it has ever had for its
// own peak, over exec. A step that used less has no figure.
func TestPeakIsTheStepsOwn(t *testing.T) {
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		t.Fatal(err)
	}
	takes := self.Maxrss>>10 + 200 // MiB, beyond what the tests before have taken
	j := newJob(t, "true", fmt.Sprintf("dd if=/dev/zero of=/dev/null bs=%dM count=1 2>/dev/null", takes))
	o := j.run(t.Context())
	expect(t, o, fsm.Passed, "", 0, "")
	if small, large := o.Steps[0].PeakMemory, o.Steps[1].PeakMemory; small != 0 || large < (takes-50)<<20 {
		t.Errorf("a step that does nothing has %d bytes, one that takes %d MiB %d", small, takes, large)
	}
}

// TestStartIsRecordedFirst: a crash at any time leaves a record of each step that may have
// run, so that no attempt runs one twice.
func TestStartIsRecordedFirst(t *testing.T) {
	j := newJob(t, "true", "true")
	j.run(t.Context())
	started, processes := make(map[int]bool), 0
	for _, r := range j.records() {
		switch r.Kind {
		case supervise.RecordStart:
			started[r.Step] = true
		case supervise.RecordProcess:
			if processes++; !started[r.Step] {
				t.Errorf("step %d had a process before its start was recorded", r.Step)
			}
		case supervise.RecordStep:
			if !started[r.Step] {
				t.Errorf("step %d ended and was never recorded to start", r.Step)
			}
		}
	}
	if len(started) != 2 || processes == 0 {
		t.Errorf("%d starts and %d processes in %+v", len(started), processes, j.records())
	}
}
