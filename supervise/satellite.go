package supervise

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// satelliteSocket is the name of a satellite's socket in the SocketDir.
func satelliteSocket(name string) string { return name + ".sock" }

// Satellite is the first process of a container in which some of a job's steps
// run: it takes orders from the job's own first process at the socket NAME.sock in
// the SocketsDir of dir, which all of the job's containers share. environ is what
// the image and the engine gave. It returns the exit code when all who came have
// left, or on StopSignal.
func Satellite(ctx context.Context, name, dir string, environ []string) int {
	ctx, stop := untilTold(ctx)
	defer stop()
	if err := serveSatellite(ctx, name, filepath.Join(dir, SocketsDir), environ); err != nil {
		fmt.Fprintln(os.Stderr, "narwhal:", err)
		return exitBroken
	}
	return 0
}

func serveSatellite(ctx context.Context, name, dir string, environ []string) error {
	if err := hide(); err != nil {
		return err
	}
	l, closing, err := listen(dir, satelliteSocket(name))
	if err != nil {
		return err
	}
	var reaping sync.WaitGroup // never waited for: it ends with this process
	r := newReaper()
	reaping.Go(r.run)
	o := &outpost{parent: r, environ: environ, installs: newInstalls(), crowd: newCrowd(), empty: make(chan struct{})}
	var accepting, visits sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			o.come()
			visits.Go(func() {
				defer o.part()
				o.serve(ctx, conn)
			})
		}
	})
	select {
	case <-o.empty:
	case <-ctx.Done():
	}
	closing()
	accepting.Wait()
	visits.Wait()
	return nil
}

// outpost is a satellite at work.
type outpost struct {
	parent   parent
	environ  []string
	installs chan bool
	crowd    *crowd

	mu    sync.Mutex
	count int           // who is here
	empty chan struct{} // closed when the last one has left
}

func (o *outpost) come() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count++
}

func (o *outpost) part() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count--; o.count == 0 {
		select {
		case <-o.empty:
		default:
			close(o.empty)
		}
	}
}

// visit is a connection, which belongs to one step.
type visit struct {
	wire   *wire
	orders chan given    // closed when no more come
	over   chan struct{} // closed when the other side is gone
	done   chan struct{} // closed when no order is taken any more

	mu      sync.Mutex
	current *given // the last order
}

// given is an order with what ends it.
type given struct {
	order
	ctx    context.Context
	cancel context.CancelCauseFunc
	now    chan struct{}
	once   *sync.Once
}

// serve runs what the connection orders, one after the other. When it ends, all
// that it started does.
func (o *outpost) serve(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	v := &visit{wire: &wire{to: conn}, orders: make(chan given, 1), over: make(chan struct{}), done: make(chan struct{})}
	var listening sync.WaitGroup
	listening.Go(func() { v.listen(ctx, conn) })
	defer listening.Wait()
	defer func() { _ = conn.Close() }()
	defer close(v.done)
	// Who waits for orders hears of the satellite's end by a read that ends.
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	out, err := openOutput(&wireSink{wire: v.wire})
	if err != nil {
		return
	}
	var sites []*site
	for g := range v.orders {
		s := o.site(v, &g)
		sites = append(sites, s)
		end := s.try(g.ctx, g.Index, &g.Step, g.Secrets, out)
		g.cancel(nil)
		answer := report{
			Status: end.status, Cause: end.cause, Exit: end.exit, Message: end.message,
			CPU: end.usage.cpu, Peak: end.usage.peak, Container: peakMemory(),
		}
		if v.wire.tell(frameResult, answer) != nil {
			break
		}
	}
	// What it left running may serve other steps, until the job has ended.
	free := out.finish()
	if !free {
		v.copyOn(ctx, out)
	}
	select {
	case <-v.over:
	case <-ctx.Done():
	}
	for _, s := range sites {
		s.killSessions()
	}
	if !free {
		out.drain(time.Now().Add(drainFor))
		out.close()
	}
}

// copyOn goes on with what others print until the other side is gone.
func (v *visit) copyOn(ctx context.Context, out *output) {
	var interrupting sync.WaitGroup
	copied, quiet := make(chan struct{}), make(chan struct{})
	interrupting.Go(func() {
		select {
		case <-v.over:
		case <-ctx.Done():
		case <-copied:
			return
		}
		close(quiet)
		out.interrupt()
	})
	out.copy(quiet)
	close(copied)
	interrupting.Wait()
}

func (o *outpost) site(v *visit, g *given) *site {
	return &site{
		task: &g.Task, parent: o.parent, env: overlay(o.environ, g.Task.Env), now: g.now, installs: o.installs, crowd: o.crowd,
		say:     func(f string, args ...any) { _ = v.wire.send(frameSay, fmt.Appendf(nil, f, args...)) },
		started: func(_, pid int) { _ = v.wire.tell(framePid, pid) },
	}
}

// listen takes what the other side tells until it is gone.
func (v *visit) listen(ctx context.Context, conn net.Conn) {
	in := frames{in: bufio.NewReader(conn)}
	defer close(v.over)
	left := false
	leave := func() {
		if !left {
			left = true
			close(v.orders)
		}
	}
	defer leave()
	defer func() {
		if ctx.Err() == nil { // nobody waits for a step whose job has ended
			v.stop(0)
		}
	}()
	for {
		kind, payload, err := in.next()
		if err != nil {
			return
		}
		switch {
		case kind == frameRun && !left:
			g := given{now: make(chan struct{}), once: new(sync.Once)}
			if json.Unmarshal(payload, &g.order) != nil {
				return
			}
			g.ctx, g.cancel = context.WithCancelCause(ctx)
			v.mu.Lock()
			v.current = &g
			v.mu.Unlock()
			select {
			case v.orders <- g:
			case <-v.done:
				return
			}
		case kind == frameStop:
			var grace time.Duration
			if json.Unmarshal(payload, &grace) != nil {
				return
			}
			v.stop(grace)
		case kind == frameLeave:
			leave()
		}
	}
}

// stop ends the order that is being run.
func (v *visit) stop(grace time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if g := v.current; g != nil {
		g.cancel(&Stop{Grace: grace})
		if grace <= 0 {
			g.once.Do(func() { close(g.now) })
		}
	}
}
