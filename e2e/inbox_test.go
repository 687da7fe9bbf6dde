package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/inbox"
	"github.com/codepr/narwhal/internal/lab"
)

// webhooked is a cluster that takes a forge's webhooks.
func webhooked(t *testing.T, f *forge) *lab.Lab {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(file, []byte(secret+"\n"), 0o600))
	return cluster(t, lab.Options{Protocol: "file,http", Args: []string{"--webhook-secret-file", file, "--github-host", f.host}})
}

// hooks runs narwhal hooks at a node; its standard output is JSON.
func hooks(t *testing.T, n *lab.Node, out any, args ...string) (stderr string, err error) {
	t.Helper()
	cmd := exec.CommandContext(deadline(t, patience), binary, append([]string{"hooks"}, args...)...)
	cmd.Args = append(cmd.Args, "--json")
	cmd.Env = append(os.Environ(), "NARWHAL_ADDR="+n.API, "NARWHAL_DATA_DIR="+n.Dir)
	var said strings.Builder
	cmd.Stderr = &said
	text, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(text, out)
	}
	return said.String(), err
}

func deliveriesAt(t *testing.T, n *lab.Node, args ...string) []api.Delivery {
	t.Helper()
	var l api.DeliveryList
	said, err := hooks(t, n, &l, append([]string{"list"}, args...)...)
	if err != nil {
		t.Fatal(err, said)
	}
	return l.Deliveries
}

// TestDeliveries sends webhooks to one node, and looks at them and replays them at others.
func TestDeliveries(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	l := webhooked(t, f)
	ctx := deadline(t, patience)
	took := follower(t, l)
	r, ran := f.repository(t, "acme/api"), newLedger(t)
	sha := commit(t, r, ran.file(small+"steps: [{command: echo $NARWHAL_BUILD >> LEDGER}]\n"))
	body := f.push(t, r, sha)

	first, err := send(ctx, took, "/hooks/github", body, delivery("d1", secret, body))
	must(t, err)
	if first.code != http.StatusAccepted || first.Build == 0 {
		t.Fatalf("answered %+v", first)
	}
	wantStatus(t, ended(t, anyNode(t, l), first.Build), fsm.Passed)
	_, err = send(ctx, took, "/hooks/github", body, delivery("d2", secret, body))
	must(t, err)
	_, err = send(ctx, took, "/hooks/github", body, delivery("d3", "a guess", body))
	must(t, err)
	ping := delivery("d4", secret, body)
	ping["X-GitHub-Event"] = "ping"
	_, err = send(ctx, took, "/hooks/github", body, ping)
	must(t, err)

	want := []struct {
		forgeID string
		status  inbox.Status
		build   fsm.BuildID
	}{{"d4", inbox.Ignored, 0}, {"d3", inbox.Refused, 0}, {"d2", inbox.Known, first.Build}, {"d1", inbox.Accepted, first.Build}}
	for _, n := range l.Nodes {
		all := deliveriesAt(t, n)
		if len(all) != len(want) {
			t.Fatalf("%s lists %+v", n.Name, all)
		}
		for i, w := range want {
			if d := all[i]; d.ForgeID != w.forgeID || d.Status != w.status || d.Build != w.build || d.NodeName != took.Name || d.Repo != r.Name {
				t.Errorf("%s lists %+v, want %+v", n.Name, d, w)
			}
		}
		if some := deliveriesAt(t, n, "--outcome", "refused", "--repo", r.Name, "--limit", "5"); len(some) != 1 || !strings.Contains(some[0].Reason, "signature") {
			t.Errorf("%s lists as refused %+v", n.Name, some)
		}
	}
	all := deliveriesAt(t, took)
	original, forged := all[3].ID, all[1].ID

	var shown api.DeliveryBody
	other := anotherThan(l, took)
	if said, err := hooks(t, other, &shown, "show", original); err != nil || shown.Body != string(body) {
		t.Errorf("%s shows %+v, %v %s", other.Name, shown, err, said)
	}
	var again api.Delivery
	for _, n := range l.Nodes {
		if said, err := hooks(t, n, &again, "replay", original); err != nil || again.Build != first.Build || again.Status != inbox.Known {
			t.Errorf("replayed at %s: %+v, %v %s", n.Name, again, err, said)
		}
		if said, err := hooks(t, n, &again, "replay", forged, "--force"); err == nil || !strings.Contains(said, "have the forge send it again") {
			t.Errorf("a forged one, replayed at %s: %+v, %v %s", n.Name, again, err, said)
		}
	}
	if builds := allBuilds(t, anyNode(t, l)); len(builds) != 1 {
		t.Fatalf("replays made the builds %v", builds)
	}
	if said, err := hooks(t, other, &again, "replay", original, "--force"); err != nil || again.Build == first.Build || again.Status != inbox.Accepted {
		t.Fatalf("replayed by force: %+v, %v %s", again, err, said)
	}
	made := ended(t, anyNode(t, l), again.Build)
	wantStatus(t, made, fsm.Passed)
	if made.RetryOf != first.Build || made.Author != "Otter" || made.SHA != sha {
		t.Errorf("made by force: %+v", made)
	}
	if got := ran.lines(t); len(got) != 2 {
		t.Errorf("the step has written %q", got)
	}

	// Without the node that took them, the others say whose are missing.
	must(t, took.Kill())
	var rest api.DeliveryList
	if said, err := hooks(t, other, &rest, "list"); err != nil || len(rest.Deliveries) != 0 || len(rest.Missing) != 1 || !strings.Contains(said, took.Name) {
		t.Errorf("without %s: %+v, %v %s", took.Name, rest, err, said)
	}
	must(t, took.Start(deadline(t, patience)))
	if all := deliveriesAt(t, took); len(all) != 4 || all[3].Replays != 4 {
		t.Errorf("after the restart: %+v", all)
	}
}

func anotherThan(l *lab.Lab, not *lab.Node) *lab.Node {
	for _, n := range l.Nodes {
		if n != not {
			return n
		}
	}
	return nil
}

// TestKilledBetweenKeepAndHandIn sends webhooks to a node that reaches no leader, and
// kills it while it looks for one.
func TestKilledBetweenKeepAndHandIn(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	l := webhooked(t, f)
	n := follower(t, l)
	r, ran := f.repository(t, "acme/api"), newLedger(t)
	sha := commit(t, r, ran.file(small+"steps: [{command: echo $NARWHAL_COMMIT >> LEDGER}]\n"))
	body := f.push(t, r, sha)
	goOn := halt(t, l, n)
	var sender errgroup.Group
	sender.Go(func() error { // of whom nobody ever hears whether it arrived
		a, err := send(deadline(t, patience), n, "/hooks/github", body, delivery("d1", secret, body))
		if err == nil && a.code == http.StatusAccepted {
			return fmt.Errorf("without a leader it is answered %+v", a)
		}
		return nil
	})
	await(t, "the webhook on the disk", func(ctx context.Context) (bool, error) {
		list, err := nodeClient(t, n).Hooks(ctx, client.HookFilter{Limit: 5})
		if err == nil && len(list.Deliveries) == 1 && list.Deliveries[0].Status != inbox.Waiting {
			t.Fatalf("without a leader: %+v", list.Deliveries)
		}
		return len(list.Deliveries) == 1, errors.Join(err, fmt.Errorf("there are %+v", list.Deliveries))
	})
	must(t, n.Kill())
	must(t, sender.Wait())
	goOn()
	must(t, n.Start(deadline(t, patience)))
	b := handedIn(t, l, n)
	wantStatus(t, b, fsm.Passed)
	if b.SHA != sha || b.Author != "Otter" {
		t.Errorf("built is %+v", b)
	}
	if n, builds := ran.count(t, sha), allBuilds(t, anyNode(t, l)); n != 1 || len(builds) != 1 {
		t.Errorf("the step has run %d times, the builds are %v", n, builds)
	}
}

// halt stops all processes but one node's, as a machine that hangs would, until the
// function that it returns is called.
func halt(t *testing.T, l *lab.Lab, but *lab.Node) (goOn func()) {
	t.Helper()
	signal := func(s syscall.Signal) {
		t.Helper()
		for _, other := range l.Nodes {
			if other != but {
				must(t, other.Signal(s))
			}
		}
	}
	signal(syscall.SIGSTOP)
	return func() { signal(syscall.SIGCONT) }
}

// handedIn waits until the only webhook that a node has taken is handed in, and its build
// has ended.
func handedIn(t *testing.T, l *lab.Lab, n *lab.Node) api.Build {
	t.Helper()
	var settled api.Delivery
	await(t, "the webhook to be handed in", func(context.Context) (bool, error) {
		all := deliveriesAt(t, n)
		settled = all[0]
		// Known, where the leader that was halted read after all what the dead node sent.
		return len(all) == 1 && (settled.Status == inbox.Accepted || settled.Status == inbox.Known), fmt.Errorf("there are %+v", all)
	})
	return ended(t, anyNode(t, l), settled.Build)
}

// TestNoLeaderForAWhile has a webhook come while nobody leads: the forge is told to send
// it again, and does not have to.
func TestNoLeaderForAWhile(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	l := webhooked(t, f)
	n := follower(t, l)
	r := f.repository(t, "acme/api")
	sha := commit(t, r, small+"steps: [{command: 'true'}]\n")
	body := f.push(t, r, sha)
	goOn := halt(t, l, n)
	a, err := send(deadline(t, patience), n, "/hooks/github", body, delivery("d1", secret, body))
	if err != nil || a.code != http.StatusServiceUnavailable {
		t.Errorf("without a leader a webhook is answered %+v, %v", a, err)
	}
	goOn()
	b := handedIn(t, l, n)
	wantStatus(t, b, fsm.Passed)
	if builds := allBuilds(t, anyNode(t, l)); b.SHA != sha || len(builds) != 1 {
		t.Errorf("built is %s, the builds are %v", b.SHA, builds)
	}
	if a, err = send(deadline(t, patience), n, "/hooks/github", body, delivery("d1", secret, body)); err != nil || !a.Known || a.Build != b.ID {
		t.Errorf("sent again, it is answered %+v, %v", a, err)
	}
}
