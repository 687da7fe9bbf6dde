package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/cluster"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/snapshot"
)

func snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "snapshot", Short: "Save the cluster into a file, and bring it back", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(snapshotSave(), snapshotInspect(), snapshotRestore())
	return cmd
}

func snapshotSave() *cobra.Command {
	var r remote
	var p passphrase
	cmd := &cobra.Command{
		Use: "save FILE", Short: "Save the cluster's state and keys, encrypted by a passphrase", Args: cobra.ExactArgs(1),
		Long: "Save what the cluster knows (builds, secrets, schedules, the audit log) and its keys into a file,\n" +
			"encrypted by a passphrase. Run it on a node's host: the keys come from its data directory. Logs,\n" +
			"artifacts and caches are not in it. What was in FILE is replaced once the new one is whole.",
		Example: "  narwhal snapshot save /backup/narwhal.snapshot --passphrase-file /root/passphrase",
	}
	p.register(cmd)
	return r.command(cmd, func(ctx context.Context, args []string) error {
		keys, err := keysHere(ctx, &r)
		if err != nil {
			return err
		}
		phrase, err := p.choose(cmd)
		if err != nil {
			return err
		}
		header, size, err := save(ctx, &r, keys, phrase, args[0])
		if err == nil {
			r.say("saved cluster %s at index %d, %d bytes: keep the passphrase, nobody can restore it without", header.ClusterID, header.Index, size)
		}
		return err
	})
}

// keysHere reads the keys from this host's node, and makes sure that the node that
// answers is of the same cluster: the two go into one file.
func keysHere(ctx context.Context, r *remote) (cluster.Keys, error) {
	keys, err := cluster.ReadKeys(r.dataDir)
	switch {
	case errors.Is(err, os.ErrPermission):
		return cluster.Keys{}, fmt.Errorf("the cluster's keys in %s can't be read by this user: run it with sudo", r.dataDir)
	case errors.Is(err, cluster.ErrNotRunning), errors.Is(err, os.ErrNotExist):
		return cluster.Keys{}, fmt.Errorf("there is no node in %s to read the cluster's keys from: run it on a node's host, or give its --data-dir", r.dataDir)
	case err != nil:
		return cluster.Keys{}, err
	}
	status, err := r.client.Status(ctx)
	if err == nil && status.ClusterID != keys.ClusterID {
		err = fmt.Errorf("--data-dir %s is of cluster %s, and %s of cluster %s: give the address of a node of the same", r.dataDir, keys.ClusterID, r.addrs[0], status.ClusterID)
	}
	return keys, err
}

// save writes a snapshot, and gives it its name once it is whole and on the disk.
func save(ctx context.Context, r *remote, keys cluster.Keys, phrase, path string) (header snapshot.Header, size int64, err error) {
	text, err := keys.Marshal()
	if err != nil {
		return header, 0, err
	}
	index, state, err := r.client.Snapshot(ctx)
	if err != nil {
		return header, 0, err
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	header = snapshot.Header{
		ClusterID: keys.ClusterID, Generation: keys.Generation, Index: index,
		SavedAt: time.Now().UTC(), SavedBy: version, Keys: text,
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return header, 0, fmt.Errorf("save snapshot: %w", err)
	}
	err = snapshot.Write(f, phrase, header, state)
	if err == nil {
		size, err = f.Seek(0, io.SeekCurrent)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return header, 0, errors.Join(fmt.Errorf("save snapshot: %w", err), os.Remove(f.Name()))
	}
	return header, size, nil
}

// snapshotView is what inspect tells of a file.
type snapshotView struct {
	ClusterID  string    `json:"cluster_id"`
	Generation uint64    `json:"generation"`
	Index      uint64    `json:"index"`
	SavedAt    time.Time `json:"saved_at"`
	SavedBy    string    `json:"saved_by"`
	Builds     int       `json:"builds"`
	Live       int       `json:"live"`
	Nodes      int       `json:"nodes"`
	Secrets    int       `json:"secrets"`
	Schedules  int       `json:"schedules"`
	Hash       string    `json:"hash"`
}

func snapshotInspect() *cobra.Command {
	var p passphrase
	r := remote{} // for its way to print
	cmd := &cobra.Command{
		Use: "inspect FILE", Short: "Read a snapshot to its end, and say what is in it", Args: cobra.ExactArgs(1),
		Long: "Read a snapshot to its end, and say what is in it: that it says anything shows that it can be\nrestored. It needs no node.",
	}
	p.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r.out, r.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
		header, state, err := openSnapshot(cmd, &p, args[0])
		if err != nil {
			return err
		}
		defer func() { _ = state.Close() }()
		v, err := inspect(header, state)
		if err != nil {
			return err
		}
		return r.print(v, func(w io.Writer) {
			row(w, "cluster", fmt.Sprintf("%s, generation %d", v.ClusterID, v.Generation))
			row(w, "saved", fmt.Sprintf("%s by narwhal %s", v.SavedAt.Local().Format(time.RFC3339), v.SavedBy))
			row(w, "index", v.Index)
			row(w, "builds", fmt.Sprintf("%d, %d of them not ended", v.Builds, v.Live))
			row(w, "nodes", v.Nodes)
			row(w, "secrets", v.Secrets)
			row(w, "schedules", v.Schedules)
			row(w, "hash", v.Hash)
		})
	}
	return r.reads(cmd)
}

func inspect(header snapshot.Header, from io.Reader) (v snapshotView, err error) {
	s, err := fsm.Restore(from)
	if err != nil {
		return v, err
	}
	v = snapshotView{
		ClusterID: header.ClusterID, Generation: header.Generation, Index: header.Index, SavedAt: header.SavedAt, SavedBy: header.SavedBy,
		Builds: s.BuildCount(), Live: s.LiveBuilds(),
	}
	for range s.Nodes() {
		v.Nodes++
	}
	for range s.Secrets() {
		v.Secrets++
	}
	for range s.Schedules() {
		v.Schedules++
	}
	v.Hash, err = s.Hash()
	return v, err
}

func snapshotRestore() *cobra.Command {
	var p passphrase
	var dir string
	var yes bool
	cfg := logConfig{level: "info", format: "text"}
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Make this host the first node of a saved cluster", Args: cobra.ExactArgs(1),
		Long: "Make this host the first node of a new generation of the saved cluster, while no node of it runs.\n" +
			"With an empty data directory it is a new node; a node of that cluster keeps who it is, its logs\n" +
			"and its artifacts, and its old log of the state is set aside. What happened after the snapshot was\n" +
			"saved is lost. Others join with the same token as before, with empty data directories.",
		Example: "  narwhal snapshot restore narwhal.snapshot --data-dir /var/lib/narwhal --yes",
	}
	p.register(cmd)
	cmd.Flags().StringVar(&dir, "data-dir", "/var/lib/narwhal", "the node's data directory")
	cmd.Flags().BoolVar(&yes, "yes", false, "the cluster does not run any more")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !yes {
			return usage("what happened after the snapshot was saved is lost, and a cluster that still runs would be there twice: give --yes if it does not")
		}
		header, state, err := openSnapshot(cmd, &p, args[0])
		if err != nil {
			return err
		}
		defer func() { _ = state.Close() }()
		keys, err := cluster.UnmarshalKeys(header.Keys)
		if err != nil {
			return err
		}
		s, err := fsm.Restore(state)
		if err != nil {
			return err
		}
		saved := cluster.Saved{Keys: keys, Index: s.Index(), Term: max(s.LastTerm(), 1), State: func(w io.Writer) error {
			_, err := s.WriteTo(w)
			return err
		}}
		id, err := cluster.Restore(cluster.Config{DataDir: dir}, saved, cfg.logger(os.Stderr))
		if errors.Is(err, cluster.ErrLocked) {
			return fmt.Errorf("%w: stop the node first", err)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "node %s is the only voter of cluster %s, generation %d: start it\n", id.NodeID, id.ClusterID, id.Generation)
		return nil
	}
	return cmd
}

// openSnapshot opens a file by its passphrase. The caller closes what it gives.
func openSnapshot(cmd *cobra.Command, p *passphrase, path string) (snapshot.Header, io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return snapshot.Header{}, nil, fmt.Errorf("open snapshot: %w", err)
	}
	phrase, err := p.read(cmd, "passphrase: ")
	if err == nil {
		var header snapshot.Header
		var state io.ReadCloser
		if header, state, err = snapshot.Open(f, phrase); err == nil {
			return header, closeBoth{state, f}, nil
		}
		err = fmt.Errorf("%s: %w", path, err)
	}
	return snapshot.Header{}, nil, errors.Join(err, f.Close())
}

// closeBoth closes the file with what is read from it.
type closeBoth struct {
	io.ReadCloser
	file io.Closer
}

func (c closeBoth) Close() error { return errors.Join(c.ReadCloser.Close(), c.file.Close()) }
