package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
	"github.com/codepr/narwhal/link"
)

// place says what the steps run in.
func (r *Runner) place(w link.Work) string {
	if r.cfg.Node.Executor == "process" {
		return "as processes of the machine, without an image"
	}
	return "image " + w.Spec.Image
}

func (r *Runner) dir(ref fsm.AttemptRef) string {
	return filepath.Join(r.cfg.Dir, "attempts", fmt.Sprintf("%s-%d", ref.Job, ref.N))
}

// trash is where what is being removed lies for a moment.
func (r *Runner) trash() string { return filepath.Join(r.cfg.Dir, "trash") }

// What there is in an attempt's folder, besides what package executor puts there.
const (
	workspaceDir = "src" // the checkout
	logFile      = "log"
	journalFile  = "journal" // the executor's
)

func (r *Runner) workspace(ref fsm.AttemptRef) string { return filepath.Join(r.dir(ref), workspaceDir) }

func (r *Runner) task(a *attempt) executor.Task {
	return executor.Task{
		Ref: a.ref, Work: a.work, Cluster: r.cfg.Cluster, Node: r.cfg.Node.ID,
		Dir: r.dir(a.ref), Workspace: r.workspace(a.ref),
		ObjectsDir: r.cfg.Checkout.ObjectsDir(a.work.Commit),
		CacheLimit: r.keep.limits.filled().Cache, ArtifactsLimit: r.keep.limits.filled().Artifacts,
		Approvals: r.approvals(a.ref, a.work.Spec),
		// What a task says of itself the executor gives to the steps.
		Env: map[string]string{"NARWHAL_URL": r.cfg.URL, "NARWHAL_NODE": r.cfg.Node.Name},
	}
}

// clear removes what an attempt that is over needs no more: all but its log and the
// journal.
func (r *Runner) clear(ref fsm.AttemptRef) { r.clearFolder(r.dir(ref)) }

func (r *Runner) clearFolder(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.log.Warn("look for leftovers", "path", dir, "error", err)
	}
	for _, e := range entries {
		switch e.Name() {
		case logFile, journalFile: // people read the one, and a sweep the other
			continue
		case workspaceDir:
			if r.cfg.KeepWorkspace {
				continue
			}
		}
		r.remove(filepath.Join(dir, e.Name()))
	}
}

// words are narwhal's own in an attempt's log. A log that can't be written
// keeps no job from running.
type words struct {
	w    *joblog.Writer
	path string
	log  func(string, ...any)
	ref  fsm.AttemptRef
}

func (r *Runner) words(a *attempt) *words {
	dir := r.dir(a.ref)
	w := &words{path: filepath.Join(dir, logFile), log: r.log.Warn, ref: a.ref}
	err := os.MkdirAll(dir, 0o755) // a container's user reads it; the folder above is closed
	if err == nil {
		w.w, err = joblog.Create(w.path, 0)
	}
	if err != nil {
		w.log("open job log", "attempt", a.ref.String(), "error", err)
	}
	r.cfg.Copies.Watch(a.ref, w.path)
	return w
}

func (w *words) say(format string, args ...any) {
	if w.w != nil {
		w.w.Printf(format, args...)
	}
}

// close gives the log's size, with what others have written to it.
func (w *words) close() int64 {
	if w.w == nil {
		return 0
	}
	if err := w.w.Close(); err != nil {
		w.log("close job log", "attempt", w.ref.String(), "error", err)
	}
	info, err := os.Stat(w.path)
	if err != nil {
		w.log("measure job log", "attempt", w.ref.String(), "error", err)
		return 0
	}
	return info.Size()
}
