package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// ear is the queue of somebody who listens to narwhal.events: durable, so that it
// misses nothing while the broker is away.
const ear = "e2e-ear"

// heard is an event, or a node's metrics, as a consumer reads it.
type heard struct {
	key, id string // routing key and MessageId

	Version int    `json:"v"`
	Cluster string `json:"cluster"`

	// Of a transition.
	Seq     uint64      `json:"seq"`
	At      time.Time   `json:"at"`
	Kind    string      `json:"kind"`
	Build   fsm.BuildID `json:"build"`
	Job     string      `json:"job"`
	Name    string      `json:"name"`
	Repo    string      `json:"repo"`
	SHA     string      `json:"sha"`
	Status  fsm.Status  `json:"status"`
	Attempt int         `json:"attempt"`

	// Of metrics; Name is the node's.
	Node    fsm.NodeID `json:"node"`
	CPU     *float64   `json:"cpu"`
	Memory  *int64     `json:"memory"`
	Running *int       `json:"running"`
}

func (h heard) metrics() bool { return h.CPU != nil }

// channel is the test's own connection, which ends with the test.
func (b *brokered) channel(t *testing.T) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(b.url)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	must(t, err)
	return ch
}

// listen binds the ear to all that is told, before any node is there.
func (b *brokered) listen(t *testing.T) {
	t.Helper()
	ch := b.channel(t)
	must(t, ch.ExchangeDeclare("narwhal.events", amqp.ExchangeTopic, true, false, false, false, nil))
	_, err := ch.QueueDeclare(ear, true, false, false, false, nil)
	must(t, err)
	for _, key := range []string{"build.#", "job.#", "node.#"} {
		must(t, ch.QueueBind(ear, key, "narwhal.events", false, nil))
	}
}

// hear takes what has been told, until it is enough.
func (b *brokered) hear(t *testing.T, what string, enough func() bool) {
	t.Helper()
	ch := b.channel(t)
	await(t, what, func(context.Context) (bool, error) {
		for {
			d, ok, err := ch.Get(ear, true)
			if err != nil {
				return false, err
			}
			if !ok {
				return enough(), fmt.Errorf("%d events have been heard", len(b.heard))
			}
			h := heard{key: d.RoutingKey, id: d.MessageId}
			if err := json.Unmarshal(d.Body, &h); err != nil {
				t.Fatalf("event %q: %v", d.Body, err)
			}
			b.heard = append(b.heard, h)
		}
	})
}

// ends reports whether the end of each of these builds has been heard.
func (b *brokered) ends(builds []api.Build) func() bool {
	return func() bool {
		return !slices.ContainsFunc(builds, func(x api.Build) bool {
			return !slices.ContainsFunc(b.heard, func(h heard) bool { return h.Kind == "build" && h.Build == x.ID && h.Status.Terminal() })
		})
	}
}

// story is what was heard of one build or job, repeats left out.
func (b *brokered) story(build fsm.BuildID, job string) (story []fsm.Status, keys []string) {
	var last uint64
	for _, h := range b.heard {
		if !h.metrics() && h.Build == build && h.Job == job && h.Seq > last {
			last = h.Seq
			story, keys = append(story, h.Status), append(keys, h.key)
		}
	}
	return story, keys
}

func (b *brokered) eventsOfABuild(t *testing.T) {
	shas := b.commits(t, 1)
	b.accepted(t, b.Nodes[1].API, shas[0])
	builds := b.built(t, shas)
	b.hear(t, "the build's end", b.ends(builds))
	id := builds[0].ID
	placed := []fsm.Status{fsm.Queued, fsm.Assigned, fsm.Running, fsm.Passed}
	for of, want := range map[string][]fsm.Status{
		"":                      {fsm.Queued, fsm.Running, fsm.Passed},
		fmt.Sprintf("%d.0", id): placed,
		fmt.Sprintf("%d.1", id): placed,
	} {
		got, keys := b.story(id, of)
		if !slices.Equal(got, want) {
			t.Errorf("of build %d, job %q, was told %s, want %s", id, of, got, want)
		}
		kind := "job"
		if of == "" {
			kind = "build"
		}
		for i, key := range keys {
			if want := kind + "." + forgeRepo + "." + string(got[i]); key != want {
				t.Errorf("routing key %q, want %q", key, want)
			}
		}
	}
	for _, h := range b.heard {
		if h.Build != id {
			continue
		}
		if h.Version != 1 || h.Cluster == "" || h.id != h.Cluster+"-"+strconv.FormatUint(h.Seq, 10) || h.SHA != shas[0] || h.Repo != forgeRepo || h.At.IsZero() {
			t.Errorf("event %+v", h)
		}
		if h.Job != "" && h.Status != fsm.Queued && (h.Attempt != 1 || !slices.ContainsFunc(b.Nodes, func(n *lab.Node) bool { return n.ID == h.Node })) {
			t.Errorf("event of job %s, attempt %d on node %q", h.Job, h.Attempt, h.Node)
		}
	}
}

func (b *brokered) nodeMetrics(t *testing.T) {
	of := func(name string) *heard {
		for i := range b.heard {
			if h := &b.heard[i]; h.metrics() && h.key == "node."+name+".metrics" {
				return h
			}
		}
		return nil
	}
	b.hear(t, "metrics of every node", func() bool { return of("n1") != nil && of("n2") != nil && of("n3") != nil })
	for _, n := range b.Nodes {
		h := of(n.Name)
		if h.Node != n.ID || h.Name != n.Name || *h.CPU < 0 || *h.CPU > 1 || h.Memory == nil || *h.Memory <= 0 || h.Running == nil || *h.Running < 0 || h.At.IsZero() {
			t.Errorf("metrics of %s: %+v", n.Name, h)
		}
	}
}

// orderOfAllEvents looks at what was told over the broker's restart and two
// leaders' deaths: nothing is left out, what comes first comes first, and only
// what was told already is told again.
func (b *brokered) orderOfAllEvents(t *testing.T) {
	shas := b.commits(t, 1)
	b.accepted(t, b.Nodes[0].API, shas[0])
	b.hear(t, "the last build's end", b.ends(b.built(t, shas)))
	var last uint64
	repeats := 0
	terminal := map[string]fsm.Status{}
	for _, h := range b.heard {
		switch {
		case h.metrics():
			continue
		case h.Seq <= last:
			repeats++
			continue
		case h.Seq != last+1:
			t.Fatalf("event %d was told after event %d", h.Seq, last)
		}
		last = h.Seq
		of := fmt.Sprintf("%s %d %s", h.Kind, h.Build, h.Job)
		if end, ok := terminal[of]; ok {
			t.Errorf("%s has ended as %s, and was then told to be %s", of, end, h.Status)
		}
		if h.Status.Terminal() {
			terminal[of] = h.Status
		}
	}
	all, err := anyNode(t, b.Lab).Builds(deadline(t, patience), client.Filter{Limit: 200})
	must(t, err)
	for _, x := range all.Builds {
		if got := terminal[fmt.Sprintf("build %d ", x.ID)]; got != x.Status {
			t.Errorf("build %d is %s, and was told to be %q", x.ID, x.Status, got)
		}
	}
	t.Logf("%d events of %d builds, %d of them told again", last, len(all.Builds), repeats)
}
