package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
	"github.com/codepr/narwhal/internal/s3"
)

// folder is a bucket that is a folder, which all nodes reach.
type folder string

func newFolder(t *testing.T) folder {
	t.Helper()
	f := folder(filepath.Join(t.TempDir(), "bucket"))
	must(t, os.Mkdir(string(f), 0o700))
	return f
}

func (f folder) flags() []string { return []string{"--blob-bucket", "file://" + string(f)} }

// has lists the blobs of a kind.
func (f folder) has(kind fsm.BlobKind) (paths []string, err error) {
	err = filepath.WalkDir(filepath.Join(string(f), "narwhal", "blobs", string(kind)), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !d.IsDir() && len(d.Name()) == 64 {
			paths = append(paths, path)
		}
		return err
	})
	return paths, err
}

// awaitBlobs waits until the bucket has as many of each.
func (f folder) awaitBlobs(t *testing.T, logs, archives int) {
	t.Helper()
	await(t, "blobs in the bucket", func(context.Context) (bool, error) {
		l, errL := f.has(fsm.BlobLog)
		a, errA := f.has(fsm.BlobArchive)
		return len(l) == logs && len(a) == archives, errors.Join(fmt.Errorf("there are %d logs and %d archives", len(l), len(a)), errL, errA)
	})
}

// away has the bucket be an empty folder, as where a file system is not mounted, until
// the function that it gives is called.
func (f folder) away(t *testing.T) (back func()) {
	t.Helper()
	must(t, os.Rename(string(f), string(f)+".away"))
	must(t, os.Mkdir(string(f), 0o700))
	return func() {
		t.Helper()
		must(t, os.RemoveAll(string(f)))
		must(t, os.Rename(string(f)+".away", string(f)))
	}
}

// keepsOn is a file whose one job runs on a node and leaves a file.
func keepsOn(n *lab.Node) string {
	return small + "labels: {node: " + n.Name + `}
artifacts: {paths: [left]}
steps: [{command: "echo spoken; echo left behind > left"}]
`
}

// reads has a node show the job's log and artifacts.
func reads(t *testing.T, n *lab.Node, id fsm.JobID) {
	t.Helper()
	c := nodeClient(t, n)
	if text := logText(t, c, id); !strings.Contains(text, "spoken") {
		t.Errorf("%s shows the log %q", n.Name, text)
	}
	var list api.ArtifactList
	await(t, n.Name+" to know the job's end", func(ctx context.Context) (bool, error) { // it may be a moment behind
		var err error
		list, err = c.Artifacts(ctx, id, 0)
		return err == nil, err
	})
	if len(list.Files) != 1 || list.Files[0].Path != "left" {
		t.Errorf("%s lists the artifacts %+v", n.Name, list.Files)
	}
}

// keptHere lists the sealed logs and archives that a node has itself.
func keptHere(t *testing.T, n *lab.Node) (paths []string) {
	t.Helper()
	for _, pattern := range []string{filepath.Join("logs", "*.log.zst"), filepath.Join("blobs", strings.Repeat("[0-9a-f]", 64))} {
		found, err := filepath.Glob(filepath.Join(n.Dir, pattern))
		must(t, err)
		paths = append(paths, found...)
	}
	return paths
}

// awaitSealed waits until the state of every node that runs knows that the bucket has a
// job's log.
func awaitSealed(t *testing.T, l *lab.Lab, id fsm.JobID) {
	t.Helper()
	for _, n := range l.Nodes {
		if !n.Running() {
			continue
		}
		await(t, "the log to be sealed", func(ctx context.Context) (bool, error) {
			_, data, err := stateOf(ctx, n)
			if err != nil {
				return false, err
			}
			s, err := fsm.Restore(bytes.NewReader(data))
			if err != nil {
				return false, err
			}
			j, ok := s.Job(id)
			return ok && j.Attempts[0].Log != nil && slices.ContainsFunc(j.Attempts[0].Log.Holders, fsm.NodeID.IsBucket), fmt.Errorf("%s has job %+v", n.Name, j)
		})
	}
}

// coded reports whether a node answered with a problem of that code.
func coded(err error, code string) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Code == code
}

// TestBucketOutlivesNodes has a build's log and artifacts in the bucket and not on a
// second node, and read after the node that made them is gone with its disk. What has
// rotted there is not given for what it was, and what has expired is removed.
func TestBucketOutlivesNodes(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	l := cluster(t, lab.Options{Args: append(append(f.flags(), "--sweep-every", "200ms"), quick...)})
	c, r := anyNode(t, l), repository(t)
	ran := follower(t, l)
	b := ended(t, c, trigger(t, c, r, commit(t, r, keepsOn(ran))).ID)
	wantStatus(t, b, fsm.Passed)
	id := job(t, b, "build").ID
	f.awaitBlobs(t, 2, 1) // the plan has a log too
	awaitSealed(t, l, id)
	busy := map[fsm.NodeID]bool{}
	for _, j := range b.Jobs { // the plan too
		for _, a := range j.Attempts {
			busy[a.Node] = true
		}
	}
	for _, n := range l.Nodes {
		if kept := keptHere(t, n); !busy[n.ID] && len(kept) > 0 {
			t.Errorf("%s, which ran nothing, has %v", n.Name, kept)
		}
	}
	list, err := c.Artifacts(deadline(t, patience), id, 0)
	must(t, err)
	if holders := list.Artifacts.Archive.Holders; len(holders) != 2 || holders[0] != ran.ID || !holders[1].IsBucket() {
		t.Errorf("the artifacts are held by %v", holders)
	}

	must(t, ran.Crash())
	must(t, os.RemoveAll(ran.Dir))
	for _, n := range l.Nodes {
		if n.Running() {
			reads(t, n, id)
		}
	}

	archives, err := f.has(fsm.BlobArchive)
	must(t, err)
	data, err := os.ReadFile(archives[0])
	must(t, err)
	data[len(data)/2] ^= 0xff
	must(t, os.WriteFile(archives[0], data, 0o600))
	on := leader(t, l)
	for _, path := range keptHere(t, on) {
		must(t, os.Remove(path))
	}
	if _, err := nodeClient(t, on).Artifacts(deadline(t, patience), id, 0); err == nil || !strings.Contains(err.Error(), "not the ones of that name") {
		t.Errorf("what has rotted in the bucket: %v", err)
	}

	// It is not needed once it has expired.
	c = anyNode(t, l)
	short := strings.Replace(keepsOn(on), "[left]", "[left], expire_in: 1s", 1)
	b = ended(t, c, trigger(t, c, r, commit(t, r, strings.Replace(short, "left behind", "not for long", 1))).ID)
	wantStatus(t, b, fsm.Passed)
	f.awaitBlobs(t, 4, 2)
	made, err := f.has(fsm.BlobArchive)
	must(t, err)
	for _, path := range made { // what is young may be another job's
		must(t, os.Chtimes(path, time.Time{}, time.Now().Add(-25*time.Hour)))
	}
	await(t, "the expired archive to go", func(ctx context.Context) (bool, error) {
		_, err := c.Artifacts(ctx, job(t, b, "build").ID, 0)
		have, errHas := f.has(fsm.BlobArchive)
		return coded(err, api.CodeGone) && len(have) == 1 && have[0] == archives[0], errors.Join(fmt.Errorf("there are %v, and artifacts: %w", have, err), errHas)
	})
	f.awaitBlobs(t, 4, 1)
}

// TestBucketOutage has jobs go on while the bucket can't be used, and their logs and
// artifacts go there when it can. Meanwhile people are told.
func TestBucketOutage(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	l := cluster(t, lab.Options{Args: append(f.flags(), quick...)})
	c, r := anyNode(t, l), repository(t)
	ran, leads := follower(t, l), leader(t, l)
	b := ended(t, c, trigger(t, c, r, commit(t, r, keepsOn(ran))).ID)
	before := job(t, b, "build").ID
	f.awaitBlobs(t, 2, 1)

	back := f.away(t)
	file := strings.Replace(keepsOn(ran), "left behind", "left in an outage", 1)
	b = ended(t, c, trigger(t, c, r, commit(t, r, file)).ID)
	wantStatus(t, b, fsm.Passed)
	during := job(t, b, "build").ID
	for _, n := range l.Nodes {
		reads(t, n, during)
	}
	await(t, "the cluster to tell of the outage", func(ctx context.Context) (bool, error) {
		s, err := nodeClient(t, ran).Status(ctx)
		if err != nil {
			return false, err
		}
		for _, m := range s.Members {
			if m.ID == ran.ID && m.Bucket != nil && m.Bucket.Down && m.Bucket.Waiting > 0 {
				return s.Bucket != nil && strings.Contains(s.Bucket.Error, "mounted"), fmt.Errorf("the bucket is %+v", s.Bucket)
			}
		}
		return false, fmt.Errorf("members are %+v", s.Members)
	})
	out, _, code := cli(t, nil, "status", "--addr", ran.API, "--data-dir", ran.Dir)
	if code != 0 || !strings.Contains(out, "down since") || !strings.Contains(out, "wait on their nodes") {
		t.Errorf("status exits %d with\n%s", code, out)
	}
	// What only the bucket has can't be read, and why is said.
	third := l.Nodes[0]
	for _, n := range l.Nodes {
		if n != ran && n != leads {
			third = n
		}
	}
	must(t, ran.Kill())
	for _, path := range keptHere(t, third) {
		must(t, os.Remove(path))
	}
	if _, err := nodeClient(t, third).Artifacts(deadline(t, patience), before, 0); !coded(err, api.CodeBucketDown) {
		t.Errorf("artifacts that only the bucket has: %v", err)
	}
	must(t, ran.Start(deadline(t, patience))) // while it is down

	back()
	f.awaitBlobs(t, 4, 2)
	awaitSealed(t, l, during)
	await(t, "nothing to wait", func(ctx context.Context) (bool, error) {
		s, err := nodeClient(t, third).Status(ctx)
		if err != nil {
			return false, err
		}
		for _, m := range s.Members {
			if m.Bucket == nil || m.Bucket.Down || m.Bucket.Waiting > 0 {
				return false, fmt.Errorf("%s has %+v", m.Name, m.Bucket)
			}
		}
		return s.Bucket.Error == "" && s.Disagreement == "", errors.New(s.Bucket.Error + s.Disagreement)
	})
	await(t, "the state to name the bucket", func(ctx context.Context) (bool, error) {
		list, err := nodeClient(t, third).Artifacts(ctx, during, 0)
		if err != nil {
			return false, err
		}
		h := list.Artifacts.Archive.Holders
		return h[len(h)-1].IsBucket(), fmt.Errorf("held by %v", h)
	})
	must(t, ran.Crash())
	must(t, os.RemoveAll(ran.Dir))
	reads(t, third, before)
	reads(t, third, during)
}

// TestBucketComesLater has what was on nodes move to a bucket that the cluster is given
// later. Meanwhile the nodes don't all have it, which people are told.
func TestBucketComesLater(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	l := cluster(t, lab.Options{Args: quick})
	c, r := anyNode(t, l), repository(t)
	b := ended(t, c, trigger(t, c, r, commit(t, r, keepsOn(l.Nodes[1]))).ID)
	wantStatus(t, b, fsm.Passed)
	id := job(t, b, "build").ID
	for i, n := range l.Nodes {
		must(t, n.Stop())
		n.Args = f.flags()
		must(t, n.Start(deadline(t, patience)))
		settle(t, l)
		reads(t, n, id)
		await(t, "the nodes to know who has the bucket", func(ctx context.Context) (bool, error) {
			s, err := nodeClient(t, n).Status(ctx)
			return err == nil && (s.Disagreement == "") == (i == len(l.Nodes)-1), errors.Join(fmt.Errorf("said is %q", s.Disagreement), err)
		})
		if out, _, code := cli(t, nil, "nodes", "--addr", n.API, "--data-dir", n.Dir); code != 0 || !strings.Contains(out, "BUCKET") || strings.Contains(out, "none") && i == len(l.Nodes)-1 {
			t.Errorf("nodes are\n%s", out)
		}
	}
	f.awaitBlobs(t, 2, 1)
	for _, n := range l.Nodes {
		reads(t, n, id)
	}
	// It is this cluster's alone.
	other := cluster(t, lab.Options{Nodes: 1})
	spare := other.Spare(f.flags()...)
	must(t, spare.Launch())
	if err := spare.Await(deadline(t, patience)); err == nil || !strings.Contains(spare.Log(), "give each cluster a bucket") {
		t.Errorf("with another cluster's bucket a node ends with %v and says %s", err, spare.Log())
	}
}

// TestBucketOfS3 has the same of a bucket that speaks S3. Its credentials are in the
// nodes' environment, and neither in what they say nor in what jobs see.
func TestBucketOfS3(t *testing.T) {
	t.Parallel()
	store := s3.New(t, "builds")
	l := cluster(t, lab.Options{Args: append([]string{"--blob-bucket", store.URL}, quick...), Env: s3.Environment()})
	c, r := anyNode(t, l), repository(t)
	ran := follower(t, l)
	b := ended(t, c, trigger(t, c, r, commit(t, r, strings.Replace(keepsOn(ran), "echo spoken", "env; echo spoken", 1))).ID)
	wantStatus(t, b, fsm.Passed)
	id := job(t, b, "build").ID
	awaitSealed(t, l, id)
	must(t, ran.Crash())
	must(t, os.RemoveAll(ran.Dir))
	for _, n := range l.Nodes {
		if n.Running() {
			reads(t, n, id)
		}
	}

	// It can't be reached for a while.
	c, on := anyNode(t, l), leader(t, l)
	store.Set(func(s *s3.State) { s.Refuse = true })
	b = ended(t, c, trigger(t, c, r, commit(t, r, strings.Replace(keepsOn(on), "left behind", "left in an outage", 1))).ID)
	wantStatus(t, b, fsm.Passed)
	during := job(t, b, "build").ID
	await(t, "status to say so", func(context.Context) (bool, error) {
		out, stderr, _ := cli(t, nil, "status", "--addr", on.API, "--data-dir", on.Dir)
		return strings.Contains(out, "s3://builds (") && strings.Contains(out, "down since") && strings.Contains(out, "ServiceUnavailable"), errors.New(out + stderr)
	})
	store.Set(func(s *s3.State) { s.Refuse = false })
	await(t, "the artifacts to be in the bucket", func(ctx context.Context) (bool, error) {
		list, err := c.Artifacts(ctx, during, 0)
		if err != nil {
			return false, err
		}
		h := list.Artifacts.Archive.Holders
		return h[len(h)-1].IsBucket(), fmt.Errorf("held by %v", h)
	})

	said := logText(t, c, id)
	for _, n := range l.Nodes {
		said += n.Log()
	}
	for _, hidden := range []string{s3.Secret, "use_path_style"} {
		if i := strings.Index(said, hidden); i >= 0 {
			t.Errorf("%s is shown: %s", hidden, said[max(0, i-200):i+50])
		}
	}
}
