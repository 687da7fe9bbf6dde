package cluster

import (
	"bytes"
	"context"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// BenchmarkApply is one entry of 256 bytes, three voters on loopback with TLS
// and fsync, from 128 proposers.
func BenchmarkApply(b *testing.B) {
	leader := leaderOf(b, soon, benchNodes(b)...)
	entry := bytes.Repeat([]byte("x"), 256)
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, _, err := leader.Apply(context.Background(), entry); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkApplyOne is the same, one at a time.
func BenchmarkApplyOne(b *testing.B) {
	leader := leaderOf(b, soon, benchNodes(b)...)
	entry := bytes.Repeat([]byte("x"), 256)
	for b.Loop() {
		if _, _, err := leader.Apply(context.Background(), entry); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdle is what three nodes with the default times cost while nothing
// happens: milliseconds of CPU a second and node, and bytes of heap a node.
func BenchmarkIdle(b *testing.B) {
	benchNodes(b)
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before, began := used(), time.Now()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	b.ReportMetric(float64((used()-before).Milliseconds())/time.Since(began).Seconds()/3, "cpu-ms/s")
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapInuse)/3, "heap-B")
}

func benchNodes(b *testing.B) []*node {
	cfg := func(name string, join ...*node) Config {
		c := real(b, name, join...)
		c.HeartbeatTimeout, c.ProbeInterval, c.ProbeTimeout, c.Reconcile = 0, 0, 0, 0
		return c
	}
	a := start(b, cfg("a"))
	nodes := []*node{a, start(b, cfg("b", a)), start(b, cfg("c", a))}
	a.untilVoters(3, soon)
	return nodes
}
