package main

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
)

func TestGuard(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &guard{}
	ln := g.listener(inner)
	defer func() { _ = ln.Close() }()
	dial := func(from string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := d.DialContext(t.Context(), "tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	accepted := func() string {
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		return conn.RemoteAddr().(*net.TCPAddr).IP.String()
	}
	dial("127.0.0.9")
	if from := accepted(); from != "127.0.0.9" {
		t.Errorf("before anything is refused %s was accepted", from)
	}
	jobs := netip.MustParsePrefix("127.0.0.8/29")
	g.refuse(jobs.Contains)
	refused := dial("127.0.0.9")
	dial("127.0.0.2")
	if from := accepted(); from != "127.0.0.2" {
		t.Errorf("%s was accepted", from)
	}
	if n, err := refused.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("who is refused reads %d bytes, %v", n, err)
	}
}
