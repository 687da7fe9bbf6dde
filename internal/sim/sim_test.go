package sim

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	seeds = flag.Int("seeds", defaultSeeds, "how many seeds TestSeeds runs")
	first = flag.Uint64("first", 1, "the first of them")
	seed  = flag.Uint64("seed", 0, "run only this seed, and tell what happens")
	bug   = flag.String("bug", "", "with -seed: a field of Bugs, to plant that bug")
)

// tooMany is how many failed seeds end TestSeeds.
const tooMany = 5

func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(400) // a run is small and makes much garbage
	os.Exit(m.Run())
}

// TestSeeds runs whole clusters through faults: a failure names its seed, and
// -seed has it again, told step by step.
func TestSeeds(t *testing.T) {
	if *seed != 0 {
		replay(t)
		return
	}
	sum := run(t)
	t.Logf("%+v", sum)
	for what, n := range map[string]int{"builds": sum.Builds, "losses": sum.Losses, "requeued": sum.Requeued,
		"stale": sum.Stale, "expired": sum.Expired, "quarantined": sum.Quarantined, "retried": sum.Retried,
		"held": sum.Held, "skipped": sum.Skipped, "replaced": sum.Replaced, "timed out": sum.TimedOut, "fired": sum.Fired} {
		if *seeds >= 200 && n == 0 {
			t.Errorf("not one run has seen %s: the simulation does not go there", what)
		}
	}
}

// run runs all seeds, on as many processors as there are.
func run(t *testing.T) (sum Result) {
	var (
		wg     sync.WaitGroup
		next   atomic.Uint64
		failed atomic.Int64
		mu     sync.Mutex // guards sum
	)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for failed.Load() < tooMany {
				n := next.Add(1) - 1
				if n >= uint64(*seeds) {
					return
				}
				r, err := Run(Options{Seed: *first + n})
				if err != nil {
					failed.Add(1)
					t.Error(err)
				}
				mu.Lock()
				sum.add(r)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return sum
}

func replay(t *testing.T) {
	opt := Options{Seed: *seed, Trace: os.Stdout}
	if *bug != "" {
		plant(&opt.Bugs, *bug)
	}
	r, err := Run(opt)
	t.Logf("%+v", r)
	if err != nil {
		t.Fatal(err)
	}
}

// TestSameSeedSameRun is what the promise of a replay stands on.
func TestSameSeedSameRun(t *testing.T) {
	for s := uint64(1); s <= 5; s++ {
		a, errA := Run(Options{Seed: s})
		b, errB := Run(Options{Seed: s})
		if a != b || (errA == nil) != (errB == nil) {
			t.Errorf("seed %d: %+v, then %+v", s, a, b)
		}
	}
}

// TestFailureSaysHowToReplay has a planted bug found, and found again by what
// the failure says.
func TestFailureSaysHowToReplay(t *testing.T) {
	bugs := Bugs{SnapshotAheadOfLog: true}
	var found *Failure
	for s := *first; s < *first+within && found == nil; s++ {
		_, err := Run(Options{Seed: s, Bugs: bugs})
		errors.As(err, &found)
	}
	if found == nil {
		t.Fatalf("not found within %d seeds", within)
	}
	if want := fmt.Sprintf("\nreplay: go test ./internal/sim -run TestSeeds -seed %d -v", found.Seed); !strings.HasSuffix(found.Error(), want) {
		t.Errorf("it says %q, and not%s", found, want)
	}
	var again *Failure
	_, err := Run(Options{Seed: found.Seed, Bugs: bugs})
	if !errors.As(err, &again) || *again != *found {
		t.Errorf("found %v\nand then %v", found, err)
	}
}
