package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/codepr/narwhal/agent"
	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/blob"
	"github.com/codepr/narwhal/bundle"
	"github.com/codepr/narwhal/cluster"
	"github.com/codepr/narwhal/copies"
	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/inbox"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/replica"
	"github.com/codepr/narwhal/sched"
	"github.com/codepr/narwhal/secret"
)

// runNode is a node, from the bottom to the top:
//
//	cluster ── the log ──▶ replica ── the state ──▶ everything
//	   │ leads?                ▲ commands
//	   └──▶ dispatcher ────────┤◀── link ◀── every node's runner
//	        consumer, events ──┤
//	        API, webhooks ─────┘
//
// It stops in the reverse order: first nothing new is taken in, then the jobs are
// ended or left to be adopted while the leader can still be told, then leadership
// is handed over and the log closed.
func runNode(ctx context.Context, cfg nodeConfig, log *slog.Logger) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	raisePriority(log)
	if err := stayDown(ctx, cfg.dataDir, log); err != nil || ctx.Err() != nil {
		return err
	}
	public, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	defer func() { _ = public.Close() }()
	n, err := openNode(ctx, cfg, public, log)
	if err != nil {
		return err
	}
	defer n.close()
	if err := n.join(ctx); err != nil {
		return err
	}
	if err := n.assemble(leave); err != nil {
		return err
	}

	core := newStage(ctx, "core")
	core.start("cluster", n.cluster.Run)
	core.start("log", n.proposer.Run)
	core.start("node streams", func(ctx context.Context) error {
		return besideCluster(ctx, n.link.Run(ctx, n.cluster.Listener(alpnLink)))
	})

	work := newStage(ctx, "work")
	work.start("freshness", n.fresh.run)
	work.start("leader", n.lead)
	work.start("copies", n.copier.Run)
	work.start("old logs", n.expireLogs)
	work.start("webhooks", n.hooks.Run)
	scrubber := scrubber{n.stores(), leaderDesk{leaders{n.cluster}, n.nodes}, n.cfg.scrubEvery, n.cfg.repairBytes / 4, n.log.With("part", "scrub")}
	work.start("scrub", scrubber.run)
	if n.bucket != nil {
		work.start("bucket", n.bucket.Run)
		work.start("bucket's queue", n.minder().run)
	}
	if n.publisher != nil {
		work.start("RabbitMQ", n.publisher.Run)
	}
	if n.runner != nil {
		work.start("runner", n.runner.Run)
	}

	front := newStage(ctx, "front")
	front.start("API", func(ctx context.Context) error {
		select { // the address to join at is known from then on
		case <-n.cluster.Ready():
		case <-ctx.Done():
			return nil
		}
		n.announce()
		return besideCluster(ctx, n.api.Run(ctx, n.guard.listener(public), n.cluster.Listener(alpnHTTP)))
	})
	return runStages(ctx, core, work, front)
}

// besideCluster takes the end of what serves on the cluster's port. Where the port
// was closed under it, the cluster has ended, and it is for that to say why.
func besideCluster(ctx context.Context, err error) error {
	if errors.Is(err, net.ErrClosed) {
		<-ctx.Done()
		return nil
	}
	return err
}

// node holds the parts of a running node.
type node struct {
	cfg     nodeConfig
	log     *slog.Logger
	apiAddr string // host:port

	guard      *guard
	replica    *replica.Replica
	cluster    *cluster.Cluster
	proposer   proposer
	dispatcher *sched.Dispatcher
	link       *link.Server
	nodes      nodes
	bundles    *bundle.Store
	secrets    *secret.Box
	blobs      blobs
	sealed     sealedLogs
	shelf      *copies.Shelf
	copier     *copies.Copier
	bucket     *bucketRoad // nil without --blob-bucket
	load       *load
	runner     *workshop        // nil on a witness
	publisher  *agent.Publisher // nil without RabbitMQ
	broker     agent.Broker
	inbox      *inbox.Inbox
	hooks      *agent.Hooks
	api        *api.Server
	fresh      *freshness
	auth       *api.Auth
}

// openNode opens the data directory and the cluster port. A founder's token can
// be had from then on.
func openNode(ctx context.Context, cfg nodeConfig, public net.Listener, log *slog.Logger) (*node, error) {
	apiAddr, err := reachable(cfg.apiAdvertise, public.Addr(), cfg.join)
	if err != nil {
		return nil, err
	}
	if cfg.url == "" {
		cfg.url = "http://" + apiAddr
	}
	offer, err := cfg.offer(apiAddr)
	if err != nil {
		return nil, err
	}
	if err := haveTools(ctx, cfg); err != nil {
		return nil, err
	}
	n := &node{cfg: cfg, log: log, apiAddr: apiAddr, replica: replica.New(), guard: &guard{}}
	if n.bucket, err = openBucket(ctx, cfg, log.With("part", "bucket")); err != nil {
		return nil, err
	}
	n.cluster, err = cluster.Open(cluster.Config{
		DataDir: cfg.dataDir, Bind: cfg.clusterListen, Advertise: cfg.clusterAdvertise, Join: cfg.join, Token: cfg.token,
		Role: cfg.role(), Offer: offer, HeartbeatTimeout: cfg.heartbeat, Guard: n.guard.listener,
		SnapshotThreshold: cfg.snapshotEntries, SnapshotInterval: cfg.snapshotInterval,
	}, n.replica, log.With("part", "cluster"))
	if err != nil {
		return nil, errors.Join(err, n.bucket.close())
	}
	return n, ctx.Err()
}

// join gets the node into its cluster, and writes down how to reach it.
func (n *node) join(ctx context.Context) error {
	if err := n.cluster.Join(ctx); err != nil {
		return err
	}
	id := n.cluster.Identity()
	err := n.bucket.claim(ctx, id.ClusterID)
	if err != nil {
		return err
	}
	if n.auth, err = api.NewAuth(id.APISecret, time.Now); err != nil {
		return err
	}
	return writeHandles(n.cfg.dataDir, handles{
		ID: id.NodeID, Name: n.cfg.name, API: "http://" + n.apiAddr, Cluster: n.cluster.Addr().String(),
		token: n.auth.Token(), join: n.cluster.Token(),
	})
}

// assemble makes the parts. It starts nothing.
func (n *node) assemble(leave context.CancelFunc) error {
	id := n.cluster.Identity()
	n.proposer = proposer{replica.NewProposer(n.cluster, time.Now, oldest{n.cluster}.limit)}
	n.dispatcher = sched.NewDispatcher(sched.Config{
		States: n.replica, Proposer: n.proposer, Membership: membership{n.cluster}, Now: time.Now,
		Log: n.log.With("part", "sched"), Suspect: n.cfg.suspect, Lost: n.cfg.lost,
	})
	n.nodes = newNodes(n.cluster)
	n.load = &load{tell: n.cluster.UpdateLoad}
	var err error
	if n.link, err = link.NewServer(n.dispatcher, cluster.PeerID); err != nil {
		return err
	}
	if n.bundles, err = bundle.Open(bundle.Config{Dir: filepath.Join(n.cfg.dataDir, "bundles"), Fetch: n.nodes.fetchBundle}, n.log); err != nil {
		return err
	}
	if n.blobs, err = n.openBlobs(); err != nil {
		return err
	}
	if err = n.openCopies(); err != nil {
		return err
	}
	if n.secrets, err = secret.New(id.APISecret); err != nil {
		return err
	}
	if !n.cfg.voterOnly {
		if err = n.openWorkshop(id); err != nil {
			return err
		}
	}
	if n.cfg.amqp != "" {
		n.broker = agent.Broker{URL: n.cfg.amqp, Name: n.cfg.name}
		if n.publisher, err = agent.NewPublisher(n.broker, n.log.With("part", "agent")); err != nil {
			return err
		}
	}
	return n.buildAPI(leave)
}

// openBlobs opens the store of what jobs leave.
func (n *node) openBlobs() (blobs, error) {
	store, err := blob.Open(blob.Config{
		Near: nearest(n.cluster),
		Dir:  filepath.Join(n.cfg.dataDir, "blobs"), Budget: n.cfg.blobBytes, Limit: maxBlob,
		Fetch: n.nodes.fetchBlob(api.BlobPath, fsm.BlobArchive, n.bucket),
	}, n.log)
	return blobs{Store: store, self: fsm.NodeID(n.cluster.Identity().NodeID), kind: fsm.BlobArchive, bucket: n.bucket, peers: ranked(n.cluster), at: api.BlobPath, nodes: n.nodes}, err
}

// maxBlob is the most bytes of one archive.
const maxBlob = 4 << 30

// openWorkshop makes what runs jobs.
func (n *node) openWorkshop(id cluster.Identity) error {
	log := n.log.With("part", "runner")
	stream, err := link.NewClient(link.ClientConfig{
		Leaders: leaders{n.cluster}, Log: log,
		Dial: func(ctx context.Context, id fsm.NodeID) (net.Conn, error) {
			return n.cluster.DialNode(ctx, string(id), alpnLink)
		},
	})
	if err != nil {
		return err
	}
	if n.runner, err = newWorkshop(n.cfg, id, surroundings{
		leader: stream, bundles: n.bundles, secrets: n.secrets, blobs: n.blobs, copies: n.copier, sealed: n.sealed, caches: cacheIndex{leaderDesk{leaders{n.cluster}, n.nodes}},
		full: func(full bool) { n.load.change(func(l *cluster.Load) { l.Full = full }) },
	}, log); err != nil {
		return err
	}
	docker, ok := n.runner.executor.(*executor.Docker)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), enginePatience)
	defer cancel()
	if _, err := docker.Networks(ctx); err != nil {
		return fmt.Errorf("find the networks of jobs, which are kept off narwhal's ports: %w", err)
	}
	n.guard.refuse(docker.Local)
	return nil
}

func (n *node) buildAPI(leave context.CancelFunc) error {
	if err := n.openHooks(); err != nil {
		return err
	}
	var crash func(time.Duration) error
	if n.cfg.allowDrill {
		crash = crasher{n.cfg.dataDir}.crash
	}
	n.fresh = &freshness{cluster: n.cluster, replica: n.replica, leader: n.nodes.index}
	v := view{Cluster: n.cluster, fresh: n.fresh, drain: n.drain, resume: n.resume, logs: n.copier.Settled, left: leave, bucket: n.bucket}
	registry := prometheus.NewRegistry()
	registry.MustRegister(api.NewCollector(n.replica, v), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var err error
	n.api, err = api.New(api.Config{
		URL: n.cfg.url, Forward: n.cfg.forward, Version: version, LogsKept: n.cfg.logsKept(),
		Check: func(c fsm.Commit) error { return agent.CheckCommit(c, n.cfg.protocols) },
	}, api.Deps{
		State: n.replica, Proposer: n.proposer, Cluster: v, Transport: n.nodes, Logs: n.logs(),
		Explainer: explainer{n.dispatcher}, Bundles: bundles{n.bundles}, Blobs: n.blobs, Sealed: n.sealed, Giver: newGiver(n.stores(), n.cfg.repairBytes), Copies: n.copier, Sealer: n.secrets, Auth: n.auth,
		Hooks: n.hooks, Deliveries: deliveries{n.inbox, n.hooks}, Commits: n.desk(), Heads: n.remoteHeads(),
		Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), Crash: crash,
	}, n.log.With("part", "api"))
	return err
}

// lead is what this node does while it leads; all of it has ended before another
// leadership begins.
func (n *node) lead(ctx context.Context) error {
	select {
	case <-n.cluster.Ready():
	case <-ctx.Done(): // it could not start
		return nil
	}
	return n.cluster.WhileLeader(ctx, func(ctx context.Context, term uint64) error {
		n.log.Info("this node leads", "term", term)
		n.fresh.lead()
		if err := n.raiseEpoch(ctx); err != nil {
			return err
		}
		tenure := newStage(ctx, "leader")
		tenure.start("dispatcher", n.dispatcher.Lead)
		tenure.start("mender", n.mender().Run)
		tenure.start("sinks", n.setSinks)
		tenure.start("state version", n.raiseVersion)
		if n.cfg.catchUp {
			tenure.start("heads", n.headsWatcher().Run)
		}
		if n.bucket != nil {
			tenure.start("bucket's sweeper", n.sweeper().Run)
		}
		if n.publisher != nil {
			consumer, err := agent.NewConsumer(n.broker, n.proposer, n.overtaken, n.log.With("part", "agent"))
			if err != nil {
				return err
			}
			events := &agent.Events{
				Cluster: n.cluster.Identity().ClusterID, Publisher: n.publisher, Outbox: replica.Outbox{Replica: n.replica},
				Proposer: n.proposer, Tests: n.tests, Metrics: n.metrics, Log: n.log.With("part", "agent"),
			}
			tenure.start("consumer", consumer.Run)
			tenure.start("events", events.Run)
		}
		err := runStages(ctx, tenure)
		n.log.Info("this node leads no more", "term", term)
		return err
	})
}

// raiseEpoch makes fence tokens grow over a recovery, which may have lost log
// entries and gives their indexes out again.
func (n *node) raiseEpoch(ctx context.Context) error {
	generation := n.cluster.Identity().Generation
	if generation <= n.replica.State().Epoch() {
		return nil
	}
	_, err := n.proposer.Propose(ctx, fsm.Command{RaiseEpoch: &fsm.RaiseEpoch{Epoch: generation}})
	return err
}

// raiseVersion has new things be done once all nodes can apply them: at once in a cluster
// of this version, after an upgrade's last node in another.
func (n *node) raiseVersion(ctx context.Context) error {
	for {
		_, changed := n.cluster.Watch()
		version, _ := oldest{n.cluster}.limit()
		if was := n.replica.State().Version(); was < version {
			_, err := n.proposer.Propose(ctx, fsm.Command{RaiseVersion: &fsm.RaiseVersion{Version: version}})
			switch {
			case err == nil:
				n.log.Info("all nodes can apply what is new", "state_version", version, "was", was)
			case !errors.Is(err, fsm.ErrHeldBack): // an old node came in between
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// setSinks brings the state up to whether events are wanted, and waits.
func (n *node) setSinks(ctx context.Context) error {
	want := fsm.SetSinks{Events: n.publisher != nil}
	if n.replica.State().Sinks() != want {
		if _, err := n.proposer.Propose(ctx, fsm.Command{SetSinks: &want}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// tests is what an attempt said of its tests.
func (n *node) tests(job fsm.JobID, attempt int) *fsm.TestReport {
	j, ok := n.replica.State().Job(job)
	if !ok || attempt < 1 || attempt > len(j.Attempts) {
		return nil
	}
	return j.Attempts[attempt-1].Tests
}

// metrics is what the nodes said of their load with their last beat.
func (n *node) metrics() []agent.NodeMetrics {
	loads, err := n.dispatcher.Loads()
	if err != nil {
		return nil // another node leads by now
	}
	s := n.replica.State()
	var out []agent.NodeMetrics
	for id, l := range loads {
		if known, ok := s.Node(id); ok {
			out = append(out, agent.NodeMetrics{
				Node: id, Name: known.Name, CPU: l.CPU * 1000 / float64(max(known.Capacity.CPU, 1)),
				Memory: l.Memory, Running: l.Running, At: time.Now().UTC(),
			})
		}
	}
	return out
}

func (n *node) close() {
	if n.runner != nil {
		n.runner.Close()
	}
	if n.inbox != nil {
		if err := n.inbox.Close(); err != nil {
			n.log.Warn("close the record of webhooks", "error", err)
		}
	}
	n.cluster.Close()
	if err := n.bucket.close(); err != nil {
		n.log.Warn("close the bucket", "error", err)
	}
}

// announce says on standard output what a person needs next. The join token is good
// for ever, so it is shown at a terminal and kept out of journals.
func (n *node) announce() {
	fmt.Fprintf(os.Stdout, "node %s is up, cluster %s\n", n.cfg.name, n.cluster.Identity().ClusterID)
	fmt.Fprintf(os.Stdout, "open (once):   %s\n", n.api.LoginURL())
	token := "--token-file " + filepath.Join(n.cfg.dataDir, joinTokenFile)
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		token = "--token " + n.cluster.Token()
	}
	fmt.Fprintf(os.Stdout, "the next node: narwhal node --join %s %s\n", joinHost(n.cluster.Self().Addr), token)
}

// joinHost leaves the default port out.
func joinHost(addr string) string {
	if host, port, err := net.SplitHostPort(addr); err == nil && port == cluster.DefaultPort {
		return host
	}
	return addr
}
