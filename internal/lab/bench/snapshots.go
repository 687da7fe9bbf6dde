package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/codepr/narwhal/cluster"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
	"github.com/codepr/narwhal/snapshot"
)

// snapshots measures a state of BUILDS ended builds: how long Raft's own snapshot of it
// takes to be on the disk and to be a state again, likewise `narwhal snapshot save` and
// restore; and, on three nodes that have it, what a snapshot that is being taken costs
// the dispatch of a small build.
func snapshots(ctx context.Context, b *bench) error {
	builds := number("BUILDS", 100_000)
	say("making a state of %d builds", builds)
	state, err := history(builds)
	if err != nil {
		return err
	}
	if err := b.raftSnapshots(ctx, state); err != nil {
		return err
	}
	say("building narwhal")
	if err := lab.Build(ctx, ".", b.binary()); err != nil {
		return err
	}
	file, phrase, err := b.savedCluster(ctx, state)
	if err != nil {
		return err
	}
	nodes := filepath.Join(b.dir, "nodes")
	took, err := b.narwhal(ctx, "snapshot", "restore", file, "--passphrase-file", phrase, "--data-dir", filepath.Join(nodes, "n1"), "--yes")
	if err != nil {
		return err
	}
	print("cli_restore_s", took.Seconds())
	// So often that builds meet them; each node looks after one to two intervals.
	stop, err := b.start(ctx, "nodes", "process", []string{"--snapshot-entries", "20", "--snapshot-interval", "5s"})
	if err != nil {
		return err
	}
	err = b.dispatchBeside(ctx)
	if err == nil {
		n := b.lab.Nodes[0]
		took, err = b.narwhal(ctx, "snapshot", "save", filepath.Join(b.dir, "saved"), "--passphrase-file", phrase, "--data-dir", n.Dir, "--addr", n.API)
		print("cli_save_s", took.Seconds())
	}
	return errors.Join(err, stop())
}

// raftSnapshots saves and restores the state as a node does: by Raft's own store, fsync
// included.
func (b *bench) raftSnapshots(ctx context.Context, state *fsm.State) error {
	store, err := raft.NewFileSnapshotStore(filepath.Join(b.dir, "raft"), 1, io.Discard)
	if err != nil {
		return err
	}
	var save, restore []float64
	var size int64
	for range number("ROUNDS", 5) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		began := time.Now()
		sink, err := store.Create(raft.SnapshotVersionMax, state.Index(), 1, raft.Configuration{}, 1, nil)
		if err != nil {
			return err
		}
		if size, err = state.WriteTo(sink); err != nil {
			return errors.Join(err, sink.Cancel())
		}
		if err := sink.Close(); err != nil {
			return err
		}
		save = append(save, time.Since(began).Seconds())

		began = time.Now()
		_, from, err := store.Open(sink.ID())
		if err != nil {
			return err
		}
		got, err := fsm.Restore(from)
		if err = errors.Join(err, from.Close()); err != nil {
			return err
		}
		restore = append(restore, time.Since(began).Seconds())
		if got.BuildCount() != state.BuildCount() || got.Index() != state.Index() {
			return fmt.Errorf("restored are %d builds at index %d, of %d at %d", got.BuildCount(), got.Index(), state.BuildCount(), state.Index())
		}
		say("saved in %.2f s, restored in %.2f s", save[len(save)-1], restore[len(restore)-1])
	}
	print("snapshot_mb", float64(size)/1e6)
	print("save_s", percentile(save, 50))
	print("restore_s", percentile(restore, 50))
	return nil
}

// savedCluster writes the state as the snapshot of a cluster, whose keys are those of
// one that is founded for it.
func (b *bench) savedCluster(ctx context.Context, state *fsm.State) (file, phrase string, err error) {
	dir := filepath.Join(b.dir, "founder")
	founder, err := lab.Start(ctx, lab.Options{Binary: b.binary(), Dir: dir, Nodes: 1})
	if err != nil {
		return "", "", err
	}
	keys, err := cluster.ReadKeys(founder.Nodes[0].Dir)
	if err = errors.Join(err, founder.Close()); err != nil {
		return "", "", err
	}
	text, err := keys.Marshal()
	if err != nil {
		return "", "", err
	}
	const words = "a passphrase of a benchmark"
	phrase, file = filepath.Join(b.dir, "phrase"), filepath.Join(b.dir, "snapshot")
	if err := os.WriteFile(phrase, []byte(words), 0o600); err != nil {
		return "", "", err
	}
	f, err := os.Create(file)
	if err != nil {
		return "", "", err
	}
	r, w := io.Pipe()
	var writer sync.WaitGroup
	writer.Go(func() {
		_, err := state.WriteTo(w)
		_ = w.CloseWithError(err) // who reads is told
	})
	err = snapshot.Write(f, words, snapshot.Header{
		ClusterID: keys.ClusterID, Generation: keys.Generation, Index: state.Index(), SavedAt: time.Now().UTC(), SavedBy: "bench", Keys: text,
	}, r)
	_ = r.CloseWithError(err)
	writer.Wait()
	return file, phrase, errors.Join(err, f.Close())
}

func (b *bench) narwhal(ctx context.Context, args ...string) (time.Duration, error) {
	began := time.Now()
	out, err := exec.CommandContext(ctx, b.binary(), args...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("narwhal %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return time.Since(began), nil
}

// settled is how long after a snapshot's end its node still cleans up behind it.
const settled = 500 * time.Millisecond

// dispatchBeside runs small builds one after the other, while the nodes take snapshots
// now and then: from accepted to the first step's process, beside a snapshot on any of
// the nodes and in between.
func (b *bench) dispatchBeside(ctx context.Context) error {
	n := number("N", 300)
	if _, err := b.repo.Commit("first", file("true", "")); err != nil {
		return err
	}
	shas, err := b.repo.Commits(4*n + 1)
	if err != nil {
		return err
	}
	if err := b.warm(ctx, shas[0]); err != nil {
		return err
	}
	seen := &taken{open: make(map[string]time.Time)}
	watch, cancel := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() { seen.watch(watch, b.lab) })
	defer watcher.Wait()
	defer cancel()
	say("small builds one after the other, until %d have met a snapshot and as many have not", n)
	var beside, between []float64
	for i, sha := range shas[1:] {
		if len(beside) >= n && len(between) >= n {
			break
		}
		made, err := b.trigger(ctx, sha, fmt.Sprintf("beside-%d", i))
		if err != nil {
			return err
		}
		accepted := time.Now()
		done, err := b.ended(ctx, made.ID)
		if err != nil {
			return err
		}
		first, err := firstStep(done)
		if err != nil {
			return err
		}
		took := max(0, milliseconds(first.Sub(accepted)))
		if seen.during(accepted, first) {
			beside = append(beside, took)
		} else {
			between = append(between, took)
		}
	}
	taken := seen.count()
	if len(beside) == 0 || len(between) == 0 || taken == 0 {
		return fmt.Errorf("%d builds met one of %d snapshots, %d none: there is nothing to compare", len(beside), taken, len(between))
	}
	say("%d snapshots were taken; %d builds met one, %d none", taken, len(beside), len(between))
	print("snapshots", float64(taken))
	print("dispatch_p50_ms", percentile(between, 50))
	print("dispatch_max_ms", percentile(between, 100))
	print("beside_p50_ms", percentile(beside, 50))
	print("beside_p99_ms", percentile(beside, 99))
	print("beside_max_ms", percentile(beside, 100))
	print("dispatch_pause_ms", max(0, percentile(beside, 100)-percentile(between, 100)))
	return nil
}
