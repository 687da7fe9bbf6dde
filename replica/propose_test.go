package replica

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/codepr/narwhal/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memoryLog commits an entry after a delay and applies it to the replica.
type memoryLog struct {
	r     *Replica
	delay time.Duration
	fail  error

	mu      sync.Mutex
	entries []int // commands in each
	bytes   []int
}

func (l *memoryLog) Apply(_ context.Context, entry []byte) (uint64, any, error) {
	time.Sleep(l.delay) // virtual
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return 0, nil, l.fail
	}
	commands, err := fsm.DecodeEntry(entry)
	if err != nil {
		return 0, nil, err
	}
	l.entries, l.bytes = append(l.entries, len(commands)), append(l.bytes, len(entry))
	result, err := l.r.Apply(uint64(len(l.entries)), 1, entry)
	return uint64(len(l.entries)), result, err
}

func addBuild(i int, repo string) fsm.Command {
	return fsm.Command{AddBuild: &fsm.AddBuild{Key: fmt.Sprint(i), Commit: fsm.Commit{Repo: repo, SHA: "a"}}}
}

// run calls test in virtual time with a proposer that runs.
func run(t *testing.T, l *memoryLog, test func(ctx context.Context, p *Proposer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l.r = New()
		p := NewProposer(l, time.Now, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := p.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		test(ctx, p)
		cancel()
		running.Wait()
	})
}

// Commands that wait together travel in one entry: the busier, the larger.
func TestProposalsShareEntries(t *testing.T) {
	l := &memoryLog{delay: time.Second}
	run(t, l, func(ctx context.Context, p *Proposer) {
		const n = 300
		var clients sync.WaitGroup
		got := make([]fsm.BuildID, n)
		for i := range n {
			clients.Go(func() {
				r, err := p.Propose(ctx, addBuild(i, "r"))
				if err != nil {
					t.Error(err)
				}
				got[i] = r.Build
			})
		}
		clients.Wait()
		if len(l.entries) > inFlight+2 {
			t.Errorf("%d commands took %d entries: %v", n, len(l.entries), l.entries)
		}
		seen := make(map[fsm.BuildID]bool)
		for i, id := range got {
			if b, ok := l.r.State().Build(id); !ok || b.Key != fmt.Sprint(i) || seen[id] {
				t.Fatalf("command %d was answered with build %d", i, id)
			}
			seen[id] = true
		}
	})
}

// An entry stays below its bound, however large the commands are.
func TestEntriesAreBounded(t *testing.T) {
	l := &memoryLog{delay: time.Second}
	run(t, l, func(ctx context.Context, p *Proposer) {
		var commands []fsm.Command
		for i := range 20 {
			commands = append(commands, addBuild(i, string(make([]byte, 60<<10))))
		}
		if _, err := p.ProposeAll(ctx, commands); err != nil {
			t.Fatal(err)
		}
		for _, size := range l.bytes {
			if size > maxEntry+1024 {
				t.Errorf("an entry has %d bytes", size)
			}
		}
		if _, err := p.Propose(ctx, addBuild(99, string(make([]byte, maxEntry)))); !errors.Is(err, fsm.ErrTooLarge) {
			t.Errorf("a command beyond the bound: %v", err)
		}
		// It keeps those that it is proposed with from nothing.
		results, err := p.ProposeAll(ctx, []fsm.Command{addBuild(100, "r"), addBuild(99, string(make([]byte, maxEntry))), addBuild(101, "r")})
		if err != nil {
			t.Fatal(err)
		}
		if results[0].Err != nil || !errors.Is(results[1].Err, fsm.ErrTooLarge) || results[2].Err != nil || results[2].Build != results[0].Build+1 {
			t.Errorf("a command beyond the bound among others: %+v", results)
		}
	})
}

func TestErrorsReachWhoProposed(t *testing.T) {
	l := &memoryLog{}
	run(t, l, func(ctx context.Context, p *Proposer) {
		if _, err := p.Propose(ctx, fsm.Command{CancelBuild: &fsm.CancelBuild{Build: 7}}); !errors.Is(err, fsm.ErrUnknownBuild) {
			t.Errorf("refused command: %v", err)
		}
		l.mu.Lock()
		l.fail = errors.New("no leader")
		l.mu.Unlock()
		if _, err := p.Propose(ctx, addBuild(1, "r")); !errors.Is(err, l.fail) {
			t.Errorf("failed log: %v", err)
		}
	})
}

// What some node that holds the log could not read is not proposed; what comes with it is.
func TestNewCommandsAreHeldBack(t *testing.T) {
	l := &memoryLog{}
	run(t, l, func(ctx context.Context, p *Proposer) {
		all := uint(1)
		p.limit = func() (uint, string) { return all, "node n3 (narwhal v1)" }
		p.needs = func(c fsm.Command) uint {
			if c.AddBuild.Commit.Repo == "new" {
				return 2
			}
			return 1
		}
		results, err := p.ProposeAll(ctx, []fsm.Command{addBuild(1, "old"), addBuild(2, "new"), addBuild(3, "old")})
		if err != nil {
			t.Fatal(err)
		}
		if results[0].Err != nil || results[2].Err != nil || results[2].Build != results[0].Build+1 {
			t.Errorf("what all know got %v, %v", results[0].Err, results[2].Err)
		}
		if err := results[1].Err; !errors.Is(err, fsm.ErrHeldBack) || !strings.Contains(err.Error(), "state version 2, and node n3 (narwhal v1) has 1: upgrade that node") {
			t.Errorf("what one does not know got %v", err)
		}
		all = 2
		if _, err := p.Propose(ctx, addBuild(2, "new")); err != nil {
			t.Errorf("once all know it: %v", err)
		}
	})
}

// Nobody waits for a proposer that has ended.
func TestStoppedProposer(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	p := NewProposer(&memoryLog{r: New()}, time.Now, nil)
	if err := p.Run(ended); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Propose(t.Context(), addBuild(1, "r")); !errors.Is(err, ErrStopped) {
		t.Errorf("got %v", err)
	}
}

func TestWaitAndOutbox(t *testing.T) {
	l := &memoryLog{}
	run(t, l, func(ctx context.Context, p *Proposer) {
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if s, err := l.r.Wait(ctx, 2); err != nil || s.Index() < 2 {
				t.Errorf("wait: %v", err)
			}
		})
		waiting.Go(func() {
			told, err := Outbox{l.r}.Wait(ctx, 0)
			if err != nil || len(told) != 2 || told[0].Seq != 1 {
				t.Errorf("outbox: %v %v", told, err)
			}
		})
		if _, err := p.Propose(ctx, fsm.Command{SetSinks: &fsm.SetSinks{Events: true}}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Propose(ctx, addBuild(1, "r")); err != nil {
			t.Fatal(err)
		}
		waiting.Wait()
		ended, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := l.r.Wait(ended, 99); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait for what never comes: %v", err)
		}
	})
}
