package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
	"github.com/codepr/narwhal/internal/rabbit"
)

const (
	hookSecret = "the forge's secret"
	forgeRepo  = "acme/api"
)

// brokered is a cluster whose commits come from RabbitMQ, a forge in front of it,
// and an ear on what it tells.
type brokered struct {
	*lab.Lab
	url    string // RabbitMQ's
	broker *rabbit.Broker
	repo   *lab.Repository
	clone  string // URL
	ran    ledger
	flags  []string // what a node and an agent are started with to take webhooks
	heard  []heard  // what RabbitMQ has told so far, in its order
}

// TestRabbitMQ is one cluster and one broker, which the parts take turns with: each
// leaves both whole.
func TestRabbitMQ(t *testing.T) {
	t.Parallel()
	b := &brokered{ran: newLedger(t)}
	b.url, b.broker = rabbit.Start(t)
	b.listen(t)
	b.serve(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"amqp": b.url + "\n", "secret": hookSecret + "\n"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(b.clone, "http://"), "/")
	b.flags = []string{"--amqp-file", filepath.Join(dir, "amqp"), "--webhook-secret-file", filepath.Join(dir, "secret"), "--github-host", host}
	b.Lab = cluster(t, lab.Options{Protocol: "http", Args: b.flags, Env: []string{"no_proxy=127.0.0.1"}})

	for _, part := range []struct {
		name string
		test func(*testing.T)
	}{
		{"a webhook at any node", b.anyNode},
		{"events of a build", b.eventsOfABuild},
		{"a deleted branch", b.deletedBranch},
		{"garbage", b.garbage},
		{"the agent alone", b.agentAlone},
		{"the broker restarts", b.brokerRestarts},
		{"the leader dies with messages", b.leaderDies},
		{"the leader dies taking messages", b.leaderDiesTaking},
		{"node metrics", b.nodeMetrics},
		{"order of all events", b.orderOfAllEvents},
	} {
		if !t.Run(part.name, part.test) {
			t.Fatal("the cluster is not whole any more: the other parts are left out")
		}
	}
}

// serve serves the repository as a forge does, by git's own program.
func (b *brokered) serve(t *testing.T) {
	t.Helper()
	root := t.TempDir()
	var err error
	b.repo, err = lab.NewRepository(filepath.Join(root, forgeRepo+".git"), forgeRepo)
	must(t, err)
	commit(t, b.repo, small+b.ran.file("steps: [{command: echo $NARWHAL_COMMIT >> LEDGER}]\n"))
	where, err := exec.Command("git", "--exec-path").Output()
	must(t, err)
	server := httptest.NewServer(&cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(where)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1"},
	})
	t.Cleanup(server.Close)
	b.clone = server.URL + "/" + forgeRepo + ".git"
}

// commits makes n commits on main.
func (b *brokered) commits(t *testing.T, n int) []string {
	t.Helper()
	list, err := b.repo.Commits(n)
	must(t, err)
	return list
}

// hook sends GitHub's webhook of a push to a node or an agent.
func (b *brokered) hook(ctx context.Context, addr, sha, secret string) (status int, body string, err error) {
	text, err := json.Marshal(map[string]any{
		"ref": "refs/heads/main", "after": sha,
		"repository":  map[string]any{"full_name": forgeRepo, "clone_url": b.clone},
		"head_commit": map[string]any{"id": sha, "message": "a change", "author": map[string]any{"name": "somebody"}},
	})
	if err != nil {
		return 0, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, addr+"/hooks/github", bytes.NewReader(text))
	if err != nil {
		return 0, "", err
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(text)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-GitHub-Event", "push")
	req.Header.Set("X-GitHub-Delivery", "delivery-of-"+sha)
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer), err
}

// accepted sends a webhook that has to be taken at once.
func (b *brokered) accepted(t *testing.T, addr, sha string) {
	t.Helper()
	status, body, err := b.hook(deadline(t, patience), addr, sha, hookSecret)
	if err != nil || status != http.StatusAccepted {
		t.Fatalf("webhook of %s at %s: %d %s %v", sha, addr, status, body, err)
	}
}

// redeliver sends webhooks as a forge does, again and again until each is taken.
func (b *brokered) redeliver(ctx context.Context, addrs []string, shas []string) error {
	for i, sha := range shas {
		err := lab.Await(ctx, "the webhook of "+sha+" to be taken", func(ctx context.Context) (bool, error) {
			status, body, err := b.hook(ctx, addrs[i%len(addrs)], sha, hookSecret)
			if err == nil && status != http.StatusAccepted {
				err = fmt.Errorf("%d %s", status, body)
			}
			return err == nil, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// built waits until each commit has a build, and each of them has passed, and then
// that none has two.
func (b *brokered) built(t *testing.T, shas []string) []api.Build {
	t.Helper()
	c, bySHA := anyNode(t, b.Lab), map[string][]api.Build{}
	await(t, "a build of every commit", func(ctx context.Context) (bool, error) {
		list, err := c.Builds(ctx, client.Filter{Limit: 200})
		if err != nil || list.Next != 0 {
			return false, fmt.Errorf("list builds: %w, the next page is %d", err, list.Next)
		}
		clear(bySHA)
		for _, x := range list.Builds {
			bySHA[x.SHA] = append(bySHA[x.SHA], x)
		}
		missing := slices.DeleteFunc(slices.Clone(shas), func(sha string) bool { return len(bySHA[sha]) > 0 })
		return len(missing) == 0, fmt.Errorf("%d have none: %s", len(missing), missing)
	})
	var out []api.Build
	for _, sha := range shas {
		if n := len(bySHA[sha]); n != 1 {
			t.Errorf("commit %s has %d builds", sha, n)
		}
		x := ended(t, c, bySHA[sha][0].ID)
		if x.Status != fsm.Passed {
			t.Error(outline(x))
		}
		out = append(out, x)
	}
	return out
}

func addrs(nodes ...*lab.Node) []string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.API)
	}
	return out
}

func (b *brokered) anyNode(t *testing.T) {
	shas := b.commits(t, 4)
	for i, n := range b.Nodes {
		b.accepted(t, n.API, shas[i])
	}
	// A redelivery builds nothing more. Messages are taken in their order, so it has
	// been taken when the one behind it has.
	b.accepted(t, b.Nodes[2].API, shas[0])
	b.accepted(t, b.Nodes[0].API, shas[3])
	b.built(t, shas[3:])
	for _, x := range b.built(t, shas) {
		if x.Event != fsm.EventPush || x.Branch != "main" || x.Message != "a change" || x.Repo != forgeRepo {
			t.Errorf("build %d is of %s, %s, %q, %s", x.ID, x.Event, x.Branch, x.Message, x.Repo)
		}
		if b.ran.count(t, x.SHA) != 1 {
			t.Errorf("the step of %s has run %d times", x.SHA, b.ran.count(t, x.SHA))
		}
	}
	for _, n := range b.Nodes {
		if status, body, err := b.hook(deadline(t, patience), n.API, shas[0], "a forger's secret"); status != http.StatusForbidden {
			t.Errorf("a forged webhook at %s: %d %s %v", n.Name, status, body, err)
		}
	}
}

// deletedBranch has the news of a push and of the branch's end come by the queue.
func (b *brokered) deletedBranch(t *testing.T) {
	ctx := deadline(t, patience)
	sha := commit(t, b.repo, small+"schedule: [{cron: 0 3 1 1 *, branch: nightly}]\n"+b.ran.file("steps: [{command: echo $NARWHAL_COMMIT >> LEDGER}]\n"))
	_, err := b.repo.Git("branch", "nightly")
	must(t, err)
	tell := func(body []byte) {
		t.Helper()
		a, err := send(ctx, follower(t, b.Lab), "/hooks/github", body, delivery("nightly", hookSecret, body))
		if err != nil || a.code != http.StatusAccepted {
			t.Fatalf("a webhook is answered %+v, %v", a, err)
		}
	}
	tell(pushOf(t, forgeRepo, b.clone, "nightly", sha))
	b.built(t, []string{sha})
	if got := scheduled(t, leader(t, b.Lab), forgeRepo); got != "nightly" {
		t.Fatalf("schedules of %q", got)
	}
	tell(deletionOf(t, forgeRepo, b.clone, "nightly", sha))
	await(t, "the end of the branch's schedules", func(context.Context) (bool, error) {
		got := scheduled(t, leader(t, b.Lab), forgeRepo)
		return got == "", fmt.Errorf("there are those of %q", got)
	})
	wantDropped(t, b.Lab, forgeRepo, "nightly")
}

// garbage is what anybody can put into the queue who may write to the broker.
func (b *brokered) garbage(t *testing.T) {
	ch := b.channel(t)
	bad := []string{"garbage", `{"v":99,"commit":{}}`, `{"v":1,"commit":{"repo":"acme/api","clone_url":"ext::sh -c id","sha":"` + strings.Repeat("a", 40) + `","ref":"refs/heads/main","event":"push"}}`}
	for _, body := range bad {
		must(t, ch.PublishWithContext(deadline(t, patience), "narwhal.ingest", "commit", true, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(body)}))
	}
	shas := b.commits(t, 1)
	b.accepted(t, b.Nodes[0].API, shas[0])
	b.built(t, shas)
	var dead []string
	await(t, "the dead letters", func(context.Context) (bool, error) {
		for {
			d, ok, err := ch.Get("narwhal.commits.dead.v1", true)
			if err != nil {
				return false, err
			}
			if !ok {
				return len(dead) == len(bad), fmt.Errorf("there are %q", dead)
			}
			dead = append(dead, string(d.Body))
		}
	})
	if !slices.Equal(dead, bad) {
		t.Errorf("the dead letters are %q, want %q", dead, bad)
	}
}

// agentAlone runs `narwhal agent` on a host that knows no node.
func (b *brokered) agentAlone(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"agent", "--listen", "127.0.0.1:0", "--allow-protocol", "http"}, b.flags...)...)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "webhooks at ")
	if err != nil || !ok {
		t.Fatalf("the agent says %q, %v; %s", line, err, log.String())
	}
	addr := strings.TrimSuffix(url, "/hooks/github")
	await(t, "the agent to be healthy", func(ctx context.Context) (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, addr+"/healthz", nil)
		if err != nil {
			return false, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, err
		}
		return resp.StatusCode == http.StatusOK, errors.Join(fmt.Errorf("it answers %s", resp.Status), resp.Body.Close())
	})
	shas := b.commits(t, 1)
	if status, body, err := b.hook(deadline(t, patience), addr, shas[0], "a forger's secret"); status != http.StatusForbidden {
		t.Errorf("a forged webhook: %d %s %v", status, body, err)
	}
	b.accepted(t, addr, shas[0])
	b.built(t, shas)
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		t.Errorf("the agent ends with %v: %s", err, log.String())
	}
}

// brokerRestarts kills the broker while webhooks come in and commits wait, and
// starts it again. What was answered 2xx is built, and once.
func (b *brokered) brokerRestarts(t *testing.T) {
	shas := b.commits(t, 24)
	half := len(shas) / 2
	must(t, b.redeliver(deadline(t, patience), addrs(b.Nodes...), shas[:half]))
	var senders errgroup.Group
	ctx := deadline(t, patience)
	b.broker.Kill(t)
	for i := range 3 {
		senders.Go(func() error { return b.redeliver(ctx, addrs(b.Nodes[i]), shas[half+4*i:half+4*i+4]) })
	}
	// They come while it is away: the forge is told to come again.
	status, body, err := b.hook(ctx, b.Nodes[0].API, shas[half], hookSecret)
	if status != http.StatusServiceUnavailable {
		t.Errorf("a webhook without the broker: %d %s %v", status, body, err)
	}
	b.broker.Restart(t)
	must(t, senders.Wait())
	b.once(t, shas)
}

// once checks that each commit has been built once, and each step has run once.
func (b *brokered) once(t *testing.T, shas []string) {
	t.Helper()
	for _, x := range b.built(t, shas) {
		attempts := len(job(t, x, "build").Attempts)
		if n := b.ran.count(t, x.SHA); n < 1 || n > attempts {
			t.Errorf("the step of %s has run %d times in %d attempts", x.SHA, n, attempts)
		}
	}
}

// leaderDies stops the leader, so that messages that were sent to it stay
// unacknowledged, and then kills it.
func (b *brokered) leaderDies(t *testing.T) {
	leads, other := leader(t, b.Lab), follower(t, b.Lab)
	ch := b.channel(t)
	must(t, leads.Signal(syscall.SIGSTOP))
	shas := b.commits(t, 12)
	must(t, b.redeliver(deadline(t, patience), b.otherThan(leads), shas))
	await(t, "the broker to have sent all to the leader", func(context.Context) (bool, error) {
		q, err := ch.QueueDeclarePassive("narwhal.commits.v1", true, false, false, false, nil)
		return err == nil && q.Messages == 0, fmt.Errorf("%d are left, %w", q.Messages, err)
	})
	if list, err := nodeClient(t, other).Builds(deadline(t, patience), client.Filter{Limit: 200}); err != nil ||
		slices.ContainsFunc(list.Builds, func(x api.Build) bool { return slices.Contains(shas, x.SHA) }) {
		t.Fatalf("a commit is built that only the stopped leader can have, or %v", err)
	}
	must(t, leads.Kill())
	b.once(t, shas)
	must(t, leads.Start(deadline(t, patience)))
	settle(t, b.Lab)
}

// leaderDiesTaking kills the leader while it takes commits from the queue.
func (b *brokered) leaderDiesTaking(t *testing.T) {
	leads := leader(t, b.Lab)
	shas := b.commits(t, 24)
	must(t, b.redeliver(deadline(t, patience), b.otherThan(leads), shas[:20]))
	must(t, leads.Kill())
	must(t, b.redeliver(deadline(t, patience), b.otherThan(leads), shas[20:]))
	b.once(t, shas)
	must(t, leads.Start(deadline(t, patience)))
	settle(t, b.Lab)
}

func (b *brokered) otherThan(n *lab.Node) []string {
	return addrs(slices.DeleteFunc(slices.Clone(b.Nodes), func(x *lab.Node) bool { return x == n })...)
}
