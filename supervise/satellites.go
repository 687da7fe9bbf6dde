package supervise

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
)

const (
	// satelliteWait is how long the satellites are given to come up: their
	// containers were started before this one.
	satelliteWait = time.Minute
	// satelliteSlack is how much longer than a grace an answer may take.
	satelliteSlack = 5 * time.Second
)

// satellites are the rooms of the steps that run in other containers. Each has
// its connection before any step runs: by then nothing can have put itself in the
// place of a satellite's socket.
type satellites struct {
	r     *run
	wait  time.Duration
	rooms map[int]*distant // by step

	mu    sync.Mutex
	peaks map[string]int64 // bytes, by satellite
}

func newSatellites(r *run) *satellites {
	return &satellites{r: r, wait: satelliteWait, rooms: make(map[int]*distant), peaks: make(map[string]int64)}
}

// connect reaches the satellites of all steps.
func (s *satellites) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	for i := range s.r.task.Steps {
		step := &s.r.task.Steps[i]
		if step.Satellite == "" || step.Missing != nil {
			continue
		}
		conn, err := s.dial(ctx, step)
		if err != nil {
			return err
		}
		d := &distant{s: s, i: i, name: step.Satellite, conn: conn, wire: &wire{to: conn},
			reports: make(chan report, 1), gone: make(chan struct{}), stream: s.r.log.Stream(i)}
		s.rooms[i] = d
		s.r.lingering.Go(d.read)
	}
	return nil
}

func (s *satellites) dial(ctx context.Context, step *Step) (net.Conn, error) {
	if s.r.task.SocketDir == "" {
		return nil, fmt.Errorf("step %s is to run in a container of its own, and there is none here", step.Name)
	}
	path := filepath.Join(s.r.task.SocketDir, filepath.Base(satelliteSocket(step.Satellite)))
	for {
		conn, err := dial(ctx, path)
		if err == nil {
			return conn, nil
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return nil, fmt.Errorf("the container of step %s did not come up within %s: %w", step.Name, s.wait, err)
		}
	}
}

func (s *satellites) room(i int) (room, error) {
	if d := s.rooms[i]; d != nil {
		return d, nil
	}
	return nil, errors.New("its container was never reached")
}

// hangUp ends the connections: what the steps left running ends with them. The
// other sides get a moment to send what was printed until then.
func (s *satellites) hangUp() {
	for _, d := range s.rooms {
		_ = d.conn.SetReadDeadline(time.Now().Add(2 * drainFor))
		if c, ok := d.conn.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite()
		}
	}
}

// peak is what all of them together have used at most, in bytes.
func (s *satellites) peak() (sum int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.peaks {
		sum += n
	}
	return sum
}

// distant is the room of a step that runs in a satellite.
type distant struct {
	s       *satellites
	i       int
	name    string
	conn    net.Conn
	wire    *wire
	reports chan report
	gone    chan struct{} // closed when the satellite says no more
	stream  *joblog.Stream
}

func (d *distant) leave() { _ = d.wire.send(frameLeave, nil) }

func (d *distant) try(ctx context.Context, i int, step *Step, secrets []string) ending {
	ctx, cancel := bounded(ctx, step.Timeout, errStepTimeout)
	defer cancel()
	if err := d.wire.tell(frameRun, d.order(i, step, secrets)); err != nil {
		return broken("its container could not be told to run it: %v", err)
	}
	select {
	case got := <-d.reports:
		return d.ending(ctx, got)
	case <-d.gone:
		return d.lost()
	case <-ctx.Done():
	}
	return d.stop(ctx)
}

func (d *distant) order(i int, step *Step, secrets []string) order {
	t, s := d.s.r.task, *step
	s.Timeout = 0 // is seen to here
	o := order{Index: i, Step: s, Secrets: secrets, Task: Task{
		Dir: t.Dir, Env: t.Env, Grace: t.Grace, Shell: t.Shell, Where: t.Where, Install: t.Install,
		Nice: t.Nice, OOMScore: t.OOMScore, MemoryLimit: t.MemoryLimit, MemoryBytes: t.MemoryBytes,
	}}
	if step.Where != "" {
		o.Task.Where = step.Where
	}
	return o
}

// stop has the step ended, and waits for that as long as the grace allows.
func (d *distant) stop(ctx context.Context) ending {
	stop := d.s.r.task.stop(ctx)
	_ = d.wire.tell(frameStop, stop.Grace)
	limit := time.NewTimer(stop.Grace + satelliteSlack)
	defer limit.Stop()
	early, now := stop.Now, (<-chan struct{})(d.s.r.stopper.now)
	for {
		select {
		case got := <-d.reports:
			return d.ending(ctx, got)
		case <-d.gone:
			return d.ending(ctx, report{Status: fsm.Canceled})
		case <-limit.C:
			_ = d.conn.Close()
			return d.ending(ctx, report{Status: fsm.Canceled})
		case <-early:
		case <-now:
		}
		early, now = nil, nil
		_ = d.wire.tell(frameStop, time.Duration(0))
		limit.Reset(satelliteSlack)
	}
}

// ending is what a report comes to. The satellite knows only that it was told to
// stop; why is known here.
func (d *distant) ending(ctx context.Context, got report) ending {
	d.s.mu.Lock()
	d.s.peaks[d.name] = max(d.s.peaks[d.name], got.Container)
	d.s.mu.Unlock()
	end := ending{status: got.Status, cause: got.Cause, exit: got.Exit, message: got.Message,
		usage: usage{cpu: got.CPU, peak: got.Peak}}
	if ctx.Err() != nil && got.Status == fsm.Canceled {
		why := stopped(ctx)
		end.status, end.cause, end.message = why.status, why.cause, why.message
	}
	if !soundEnd(end.status, end.cause) {
		return d.lost()
	}
	return end
}

func (d *distant) lost() ending {
	return broken("its container ended before it did, or was stopped from outside of narwhal")
}

// read takes what the satellite sends until it is gone. A job can put its own
// words there: it is its own log, and its own result.
func (d *distant) read() {
	defer close(d.gone)
	defer d.stream.Close()
	defer func() { _ = d.conn.Close() }()
	in := frames{in: bufio.NewReaderSize(d.conn, 64<<10)}
	for {
		kind, payload, err := in.next()
		if err != nil {
			return
		}
		switch kind {
		case frameOutput:
			d.stream.Write(payload)
		case frameFlush:
			d.stream.Flush()
		case frameSay:
			d.s.r.log.Printf("%s", payload)
		case framePid:
			var pid int
			if json.Unmarshal(payload, &pid) == nil {
				d.s.r.leads(d.i, pid)
			}
		case frameResult:
			var got report
			if json.Unmarshal(payload, &got) != nil {
				return
			}
			select {
			case d.reports <- got:
			default: // nobody asked
			}
		}
	}
}
