package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/codepr/narwhal/blob"
	"github.com/codepr/narwhal/bundle"
	"github.com/codepr/narwhal/cluster"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/runner"
	"github.com/codepr/narwhal/secret"
)

// laptop is a node of a cluster of one, for one build.
type laptop struct {
	o       runOptions
	dir     string // the data directory
	lock    *os.File
	scratch string // removed at the end
	made    bundle.Created
	log     *slog.Logger
	machine pipeline.Resources
	box     *secret.Box

	printer *printer
	unknown error // set by the plan where the file has no such job; read at the build's end
	blobs   localBlobs

	*solo
	workshop *workshop
}

// nameOf is a short name for a folder's path.
func nameOf(path string) string {
	sum := sha256.Sum256([]byte(path))
	return filepath.Base(path) + "-" + hex.EncodeToString(sum[:4])
}

// openLaptop makes a commit of what lies in the checkout, and the parts that build
// it.
func openLaptop(ctx context.Context, o runOptions, p *printer) (_ *laptop, err error) {
	l := &laptop{o: o, printer: p, log: slog.New(slog.DiscardHandler)}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if o.verbose {
		l.log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if err := haveTools(ctx, nodeConfig{executor: o.executor}); err != nil {
		return nil, err
	}
	if l.scratch, err = os.MkdirTemp("", "narwhal-run-"); err != nil {
		return nil, err
	}
	if l.made, err = bundle.Create(ctx, o.dir, "", l.scratch); err != nil {
		return nil, err
	}
	what := "commit " + short(l.made.SHA)
	if l.made.Dirty {
		what = "uncommitted changes"
	}
	p.say("%s of %s", what, plain(l.made.Repo))
	if err := l.takeDir(); err != nil {
		return nil, err
	}
	if l.machine, err = runner.Detect(l.dir); err != nil {
		return nil, err
	}
	if l.box, err = secret.New(randomKey()); err != nil {
		return nil, err
	}
	l.solo = newSolo(l.log)
	return l, l.assemble()
}

// randomKey is nobody else's, and gone with this process.
func randomKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: it ends the process instead
	return key
}

// takeDir takes the checkout's folder for this process, or, where another run has
// it, one of its own.
func (l *laptop) takeDir() error {
	path, err := filepath.Abs(l.o.dir)
	if err != nil {
		return err
	}
	if l.dir, err = cacheDir(path); err != nil {
		return err
	}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	if l.lock, err = os.OpenFile(filepath.Join(l.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := syscall.Flock(int(l.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		// An earlier run's, whose numbers this one gives out again.
		return errors.Join(os.RemoveAll(filepath.Join(l.dir, "ledger")), os.RemoveAll(filepath.Join(l.dir, "attempts")))
	}
	l.dir = filepath.Join(l.scratch, "data")
	return os.MkdirAll(l.dir, 0o700)
}

// assemble makes the parts as a node does, but for the cluster.
func (l *laptop) assemble() error {
	id := cluster.Identity{ClusterID: "laptop", NodeID: "run-" + nameOf(l.dir), Incarnation: uint64(time.Now().UnixNano())}
	cfg := nodeConfig{
		dataDir: l.dir, name: "here", executor: l.o.executor, defaultImage: l.o.image, pull: l.o.pull, grace: 10 * time.Second,
		logBytes: 1 << 30, suspect: link.DefaultSuspect, lost: link.DefaultLost, protocols: []string{"https", "ssh"},
	}
	store, err := blob.Open(blob.Config{Dir: filepath.Join(l.dir, "blobs"), Limit: maxBlob}, l.log)
	if err != nil {
		return err
	}
	l.blobs = localBlobs{store}
	l.workshop, err = newWorkshop(cfg, id, surroundings{
		blobs: l.blobs, caches: localCaches{l.solo},
		leader: l.leader(fsm.NodeID(id.NodeID)), bundles: oneBundle(l.made.Path), secrets: l.box,
		secretHelp: func(name, _ string) string { return "give it as " + name + "=… in a --secret-file" },
		adjust:     l.adjust(),
	}, l.log)
	return err
}

// oneBundle is the source of the one commit that there is.
type oneBundle string

func (b oneBundle) Path(context.Context, string, []fsm.NodeID) (string, error) { return string(b), nil }

func (l *laptop) close() error {
	if l.workshop != nil {
		l.workshop.Close()
	}
	var errs []error
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	if l.scratch != "" {
		errs = append(errs, os.RemoveAll(l.scratch))
	}
	return errors.Join(errs...)
}
