package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/codepr/narwhal/agent"
	"github.com/codepr/narwhal/bucket"
	"github.com/codepr/narwhal/cluster"
	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/runner"
)

// nodeConfig is what `narwhal node` was started with.
type nodeConfig struct {
	dataDir          string
	name             string
	listen           string // host:port of the HTTP API
	apiAdvertise     string // host:port that others reach it at
	clusterListen    string // host:port of everything node to node
	clusterAdvertise string
	join             []string
	token, tokenFile string
	url              string // what people reach the cluster at

	executor     string
	defaultImage string
	labels       []string
	cpu          string
	memory, disk string
	warm         int // containers made ahead for an image
	pull         string
	jobNetworks  string
	jobProcesses int64
	voterOnly    bool
	noVoter      bool

	webhooks  webhookConfig
	amqp      string
	amqpFile  string
	protocols []string
	gitFile   string // with git servers' credentials
	forward   bool

	allowDrill bool

	heartbeat, suspect, lost time.Duration
	grace                    time.Duration
	snapshotEntries          uint64
	snapshotInterval         time.Duration
	logLimit, keepLogs       string
	keepLogsFor              time.Duration
	copyLogs                 bool
	catchUp                  bool
	repairAfter, scrubEvery  time.Duration
	repairRate               string
	keepFiles                string
	bucket                   string // its URL; empty for none
	sweepEvery               time.Duration
	bucketCaches             string
	diskHigh, diskLow        string
	log                      logConfig

	offered             pipeline.Resources // of cpu, memory and disk; 0 where not given
	logBytes, keepBytes int64              // of logLimit and keepLogs
	blobBytes           int64              // of keepFiles
	repairBytes         int64              // of repairRate, a second
	cacheBytes          int64              // of bucketCaches
	marks               runner.Marks       // of diskHigh and diskLow
	servicePool         netip.Prefix       // of jobNetworks
}

func nodeCommand() *cobra.Command {
	var cfg nodeConfig
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Run a node: founds a cluster, or joins one with --join",
		Long: "Run a node of the cluster. On an empty data directory and without --join it founds a\n" +
			"cluster and prints the line that starts the next node. After the first start the data\n" +
			"directory decides; --join then only helps to find the others. Every flag can be given\n" +
			"as an environment variable: --data-dir as NARWHAL_DATA_DIR.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd); err != nil {
				return err
			}
			if err := cfg.complete(); err != nil {
				return usage("%w", err)
			}
			err := runNode(cmd.Context(), cfg, cfg.log.logger(os.Stderr))
			for _, settled := range []error{cluster.ErrForeign, cluster.ErrLeft, cluster.ErrSuperseded, cluster.ErrDamaged, cluster.ErrTwin, cluster.ErrProtocol} {
				if errors.Is(err, settled) {
					return exitError{code: exitForeign, err: err}
				}
			}
			return err
		},
	}
	cfg.flags(cmd.Flags())
	return cmd
}

func (c *nodeConfig) flags(f *pflag.FlagSet) {
	f.StringVar(&c.dataDir, "data-dir", "/var/lib/narwhal", "where the node keeps its identity, log and builds")
	f.StringVar(&c.name, "name", "", "the node's `name` for people (default: the host's)")
	f.StringVar(&c.listen, "listen", ":9797", "`host:port` of the HTTP API")
	f.StringVar(&c.apiAdvertise, "api-advertise", "", "`host:port` that others reach the HTTP API at (default: found out)")
	f.StringVar(&c.clusterListen, "cluster-listen", ":9898", "`host:port` of everything node to node, TCP and UDP")
	f.StringVar(&c.clusterAdvertise, "cluster-advertise", "", "`host:port` that others reach the cluster port at (default: found out)")
	f.StringSliceVar(&c.join, "join", nil, "`host` of any node of the cluster to join, with a port if it is not 9898; may be given more than once")
	f.StringVar(&c.token, "token", "", "the cluster's join `token`, for the first start with --join")
	f.StringVar(&c.tokenFile, "token-file", "", "a `file` with the join token, so that it stands in no argument list")
	f.StringVar(&c.url, "url", "", "the `URL` that people open, given to steps as NARWHAL_URL (default: this node's)")
	f.StringVar(&c.executor, "executor", "docker", "how steps run: `docker`, or process, which isolates nothing")
	f.StringVar(&c.defaultImage, "default-image", "ubuntu", "the `image` of jobs that name none")
	f.StringSliceVar(&c.labels, "label", nil, "a label that jobs can ask for, as `key=value`; may be given more than once")
	f.StringVar(&c.cpu, "cpu", "", "the `CPUs` to offer to jobs, such as 4 or 500m (default: the machine's)")
	f.StringVar(&c.memory, "memory", "", "the `memory` to offer to jobs, such as 8Gi (default: the machine's, less a reserve)")
	f.StringVar(&c.disk, "disk", "", "the `disk` to offer to jobs, such as 50Gi (default: what is free below --data-dir)")
	f.IntVar(&c.warm, "warm", 1, "how many containers are kept ready for an image in use, 4 of all images at most; 0 is none")
	f.StringVar(&c.pull, "pull", string(executor.PullIfNotPresent), "when an image is asked for at its registry: `if-not-present`, always or never")
	f.StringVar(&c.jobNetworks, "job-networks", executor.DefaultPool.String(), "the `prefix` of IPv4 addresses that the networks of jobs have theirs from, from /8 to /21")
	f.Int64Var(&c.jobProcesses, "job-processes", executor.DefaultPids, "how many processes and threads a job's container has at most")
	f.BoolVar(&c.voterOnly, "voter-only", false, "a witness: votes, but runs no jobs")
	f.BoolVar(&c.noVoter, "no-voter", false, "runs jobs, but never votes")
	c.webhooks.flags(f)
	f.StringVar(&c.amqp, "amqp", "", "take commits from and send events to this RabbitMQ, as `amqp://user:password@host:port/`; better by NARWHAL_AMQP or --amqp-file, since it holds a password")
	f.StringVar(&c.amqpFile, "amqp-file", "", "a `file` with the URL of --amqp")
	f.StringSliceVar(&c.protocols, "allow-protocol", []string{"https", "ssh"}, "the `protocols` that repositories are fetched by: https, ssh, http, git, file")
	f.StringVar(&c.gitFile, "git-credentials-file", "", "a `file` with what git servers want by https, a line for each: https://user:token@host; read again when it changes")
	f.BoolVar(&c.catchUp, "catch-up", true, "ask remotes for what was pushed while no node could be told, and build it")
	f.BoolVar(&c.forward, "forward", false, "carry writes to the leader instead of answering 307")
	f.BoolVar(&c.allowDrill, "allow-drill", false, "take part in drills: whoever has the API token may then crash this node")
	f.DurationVar(&c.heartbeat, "heartbeat", 500*time.Millisecond, "how long without the leader until another is elected")
	f.Uint64Var(&c.snapshotEntries, "snapshot-entries", 8192, "how many log entries a voter takes a snapshot of its state after")
	f.DurationVar(&c.snapshotInterval, "snapshot-interval", 30*time.Second, "how often a voter looks whether a snapshot is due")
	f.DurationVar(&c.suspect, "suspect-after", link.DefaultSuspect, "how long a node may be silent until it gets no new jobs")
	f.DurationVar(&c.lost, "lost-after", link.DefaultLost, "how long a node may be silent until its jobs run elsewhere")
	f.DurationVar(&c.grace, "stop-grace", 10*time.Second, "how long a step has after TERM until KILL")
	f.StringVar(&c.logLimit, "log-limit", "64Mi", "the `size` at which a job's log is cut")
	f.StringVar(&c.keepFiles, "keep-files", "20Gi", "the `size` of caches and artifacts that this node keeps")
	f.StringVar(&c.keepLogs, "keep-logs", "10Gi", "the `size` of ended jobs' logs that this node keeps, its own and copies of others'")
	f.DurationVar(&c.keepLogsFor, "keep-logs-for", 30*24*time.Hour, "how long ended jobs' logs are kept after they were last read")
	f.BoolVar(&c.copyLogs, "copy-logs", true, "have a second node keep a copy of each log, as it is written")
	f.DurationVar(&c.repairAfter, "repair-after", 10*time.Minute, "how long a node may be away before second copies of what it holds are made on others")
	f.StringVar(&c.repairRate, "repair-rate", "16Mi", "the `size` that this node sends in a second, at most, to make copies again")
	f.DurationVar(&c.scrubEvery, "scrub-every", 24*time.Hour, "how often this node compares what it keeps for others with its checksums")
	f.StringVar(&c.bucket, "blob-bucket", "", "the `URL` of a bucket for sealed logs, artifacts and caches: s3://, gs://, azblob:// or file://; the same on all nodes (default: they stay on nodes)")
	f.StringVar(&c.bucketCaches, "bucket-caches", "100Gi", "the `size` of caches in the bucket, above which the least recently used go")
	f.DurationVar(&c.sweepEvery, "sweep-every", time.Hour, "how often the leader removes from the bucket what nobody needs any more")
	f.StringVar(&c.diskHigh, "disk-high", "85%", "how much of the disk may be in use, as a `share` or as a size that stays free, until what was least recently used goes: images, mirrors, caches, old logs")
	f.StringVar(&c.diskLow, "disk-low", "75%", "how much of the disk may be in use when enough has gone, as a `share` or a size; a node that finds nothing to remove takes no jobs")
	c.log.flags(f)
}

// complete checks what flags alone can tell and fills in what they left out.
func (c *nodeConfig) complete() error {
	if !slices.Contains([]string{"docker", "process"}, c.executor) {
		return fmt.Errorf("--executor %q: want docker or process", c.executor)
	}
	if c.dataDir == "" {
		return errors.New("--data-dir is empty")
	}
	if c.voterOnly && c.noVoter {
		return errors.New("--voter-only and --no-voter exclude each other")
	}
	if c.suspect <= 0 || c.lost <= c.suspect {
		return fmt.Errorf("--lost-after %s must be longer than --suspect-after %s", c.lost, c.suspect)
	}
	if c.heartbeat < 50*time.Millisecond {
		return fmt.Errorf("--heartbeat %s: want 50ms or more; a busy machine elects all the time below", c.heartbeat)
	}
	if c.snapshotEntries == 0 {
		return errors.New("--snapshot-entries 0: want 1 or more; few cost much where the state is large")
	}
	if c.snapshotInterval < time.Second {
		return fmt.Errorf("--snapshot-interval %s: want 1s or more", c.snapshotInterval)
	}
	if c.warm < 0 || c.warm > 4 {
		return fmt.Errorf("--warm %d: want 0 to 4", c.warm)
	}
	if c.sweepEvery <= 0 {
		return fmt.Errorf("--sweep-every %s: want more than 0", c.sweepEvery)
	}
	if c.bucket != "" {
		if err := bucket.Validate(c.bucket); err != nil {
			return fmt.Errorf("--blob-bucket: %w", err)
		}
	}
	if err := c.containers(); err != nil {
		return err
	}
	if c.grace <= 0 {
		return fmt.Errorf("--stop-grace %s: want more than 0", c.grace)
	}
	if err := readInto(&c.token, c.tokenFile, "--token", "--token-file"); err != nil {
		return err
	}
	if err := readBroker(&c.amqp, c.amqpFile); err != nil {
		return err
	}
	if err := c.log.complete(); err != nil {
		return err
	}
	if err := c.webhooks.complete(c.protocols); err != nil {
		return err
	}
	if err := c.sizes(); err != nil {
		return err
	}
	if c.gitFile != "" {
		if _, err := openGitCredentials(c.gitFile, nil); err != nil {
			return fmt.Errorf("--git-credentials-file: %w", err)
		}
	}
	if err := (cluster.Config{DataDir: c.dataDir, Bind: c.clusterListen}).Validate(); err != nil {
		return fmt.Errorf("--cluster-listen: %w", err)
	}
	if err := (cluster.Config{DataDir: c.dataDir, Join: c.join}).Validate(); err != nil {
		return fmt.Errorf("--join: %w", err)
	}
	if c.name == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("--name is not given and the host has none: %w", err)
		}
		c.name, _, _ = strings.Cut(host, ".")
	}
	dir, err := filepath.Abs(c.dataDir)
	if err != nil {
		return fmt.Errorf("--data-dir %s: %w", c.dataDir, err)
	}
	c.dataDir = dir
	_, err = c.labelMap()
	return err
}

// containers checks what jobs' containers are made by.
func (c *nodeConfig) containers() error {
	if err := executor.PullPolicy(c.pull).Validate(); err != nil {
		return fmt.Errorf("--pull %q: %w", c.pull, err)
	}
	var err error
	if c.servicePool, err = netip.ParsePrefix(c.jobNetworks); err == nil {
		err = executor.CheckPool(c.servicePool)
	}
	if err != nil {
		return fmt.Errorf("--job-networks %q: %w", c.jobNetworks, err)
	}
	if c.jobProcesses < minProcesses {
		return fmt.Errorf("--job-processes %d: want %d or more: narwhal's own supervisor has some threads", c.jobProcesses, minProcesses)
	}
	return nil
}

const minProcesses = 64

// sizes reads what is given in bytes and CPUs, so that a wrong one ends the
// process before it has founded or joined anything.
func (c *nodeConfig) sizes() error {
	for _, given := range []struct {
		flag, text string
		value      *int64
		parse      func(string) (int64, error)
	}{
		{"--cpu", c.cpu, &c.offered.CPU, pipeline.ParseCPU},
		{"--memory", c.memory, &c.offered.Memory, pipeline.ParseSize},
		{"--disk", c.disk, &c.offered.Disk, pipeline.ParseSize},
		{"--log-limit", c.logLimit, &c.logBytes, pipeline.ParseSize},
		{"--keep-files", c.keepFiles, &c.blobBytes, pipeline.ParseSize},
		{"--keep-logs", c.keepLogs, &c.keepBytes, pipeline.ParseSize},
		{"--repair-rate", c.repairRate, &c.repairBytes, pipeline.ParseSize},
		{"--bucket-caches", c.bucketCaches, &c.cacheBytes, pipeline.ParseSize},
	} {
		if given.text == "" {
			continue // for the default
		}
		var err error
		if *given.value, err = given.parse(given.text); err != nil {
			return fmt.Errorf("%s %q: %w", given.flag, given.text, err)
		}
	}
	return c.readMarks()
}

// logsKept tells people why a log is gone.
func (c *nodeConfig) logsKept() string {
	return fmt.Sprintf(": nodes keep logs for %s after they were last read, and up to %s", days(c.keepLogsFor), c.keepLogs)
}

func days(d time.Duration) string {
	if day := 24 * time.Hour; d >= 2*day && d%day == 0 {
		return fmt.Sprintf("%d days", d/day)
	}
	return d.String()
}

func (c *nodeConfig) readMarks() (err error) {
	if c.marks.High, err = runner.ParseMark(c.diskHigh); err != nil {
		return fmt.Errorf("--disk-high %q: %w", c.diskHigh, err)
	}
	if c.marks.Low, err = runner.ParseMark(c.diskLow); err != nil {
		return fmt.Errorf("--disk-low %q: %w", c.diskLow, err)
	}
	return c.marks.Validate()
}

// readInto fills value from file; both given is an error.
func readInto(value *string, file, flag, fileFlag string) error {
	if file == "" {
		return nil
	}
	if *value != "" {
		return fmt.Errorf("%s and %s exclude each other", flag, fileFlag)
	}
	secret, err := secretFile(file)
	if err != nil {
		return fmt.Errorf("%s: %w", fileFlag, err)
	}
	*value = secret
	return nil
}

// readBroker reads and checks RabbitMQ's URL, which may be left out. The error
// shows no part of it: where it can't be parsed, no part is surely not the password.
func readBroker(url *string, file string) error {
	if err := readInto(url, file, "--amqp", "--amqp-file"); err != nil || *url == "" {
		return err
	}
	if (agent.Broker{URL: *url}).Validate() != nil {
		return errors.New("--amqp: want amqp://user:password@host:5672/, where what is special in a URL is escaped, such as %2F for / in a password")
	}
	return nil
}

func (c *nodeConfig) labelMap() (map[string]string, error) {
	m := make(map[string]string)
	for _, l := range c.labels {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("--label %q: want key=value", l)
		}
		if k == "os" || k == "arch" || k == "node" {
			return nil, fmt.Errorf("--label %q: %s is set by narwhal itself", l, k)
		}
		m[k] = v
	}
	return m, nil
}

func (c *nodeConfig) role() cluster.Role {
	switch {
	case c.voterOnly:
		return cluster.RoleVoterOnly
	case c.noVoter:
		return cluster.RoleNoVoter
	}
	return cluster.RoleAny
}

// reachable finds the host:port that others reach a listener at: what the
// operator said, else the address that was bound, else the one that routes to a
// peer.
func reachable(advertised string, bound net.Addr, peers []string) (string, error) {
	if advertised != "" {
		return advertised, nil
	}
	addr, ok := bound.(*net.TCPAddr)
	if !ok {
		return bound.String(), nil
	}
	if !addr.IP.IsUnspecified() {
		return addr.String(), nil
	}
	target := "192.0.2.1:9" // RFC 5737: only asks the routing table, nothing is sent
	if len(peers) > 0 {
		if host, _, err := net.SplitHostPort(peers[0]); err == nil {
			target = net.JoinHostPort(host, "9")
		} else {
			target = net.JoinHostPort(peers[0], "9")
		}
	}
	conn, err := net.Dial("udp", target)
	if err != nil {
		return net.JoinHostPort("127.0.0.1", fmt.Sprint(addr.Port)), nil // no network at all: a cluster of one host
	}
	defer func() { _ = conn.Close() }()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		return "", fmt.Errorf("find this host's address: %w", err)
	}
	return net.JoinHostPort(host, fmt.Sprint(addr.Port)), nil
}
