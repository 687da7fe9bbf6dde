package cluster

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	maxWrongTokens  = 5 // of one address a minute
	wrongTokenWatch = time.Minute
	maxWatched      = 4096 // addresses
	maxPeers        = 64   // that a newcomer is told of; gossip tells it the rest
)

// doorman bounds how often an address may try a wrong token.
type doorman struct {
	mu    sync.Mutex
	wrong map[string]tries
}

type tries struct {
	n     int
	until time.Time
}

// blocked reports whether the address has had its tries.
func (d *doorman) blocked(ip string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.wrong[ip]
	return t.n >= maxWrongTokens && now.Before(t.until)
}

func (d *doorman) note(ip string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.wrong) >= maxWatched {
		for k, t := range d.wrong {
			if now.After(t.until) {
				delete(d.wrong, k)
			}
		}
		if len(d.wrong) >= maxWatched {
			return // the secret has 128 bits: this only keeps the log short
		}
	}
	t := d.wrong[ip]
	if now.After(t.until) {
		t = tries{until: now.Add(wrongTokenWatch)}
	}
	t.n++
	d.wrong[ip] = t
}

// admitNewcomers answers the joinRequests until the lane closes.
func (c *Cluster) admitNewcomers(ctx context.Context) error {
	d := &doorman{wrong: map[string]tries{}}
	return serve(ctx, c.joinLane, func(conn net.Conn) {
		ip := hostOf(conn.RemoteAddr())
		if d.blocked(ip, time.Now()) {
			_ = writeMessage(conn, joinAnswer{Refused: refusedOften})
			return
		}
		answer, err := c.admitOne(conn)
		if errors.Is(err, ErrTokenRefused) {
			d.note(ip, time.Now())
			answer = joinAnswer{Refused: refusedToken}
		} else if errors.Is(err, ErrProtocol) {
			c.log.Warn("refused a node", "from", ip, "err", err)
			answer = joinAnswer{Refused: refusedApart, speaker: speakerOf(c.cfg.Offer)}
		} else if err != nil {
			c.log.Warn("let a node in", "from", ip, "err", err)
			return
		}
		if err := writeMessage(conn, answer); err != nil {
			c.log.Warn("let a node in", "from", ip, "err", err)
		}
	})
}

func (c *Cluster) admitOne(conn net.Conn) (joinAnswer, error) {
	var request joinRequest
	if err := readBounded(conn, &request, maxRequest); err != nil {
		return joinAnswer{}, err
	}
	id := c.Identity()
	if subtle.ConstantTimeCompare(request.Secret, id.JoinSecret) != 1 {
		c.log.Warn("refused a node with a wrong token", "from", conn.RemoteAddr().String(), "node", request.NodeID)
		return joinAnswer{}, ErrTokenRefused
	}
	if !validNodeID(request.NodeID) {
		return joinAnswer{}, fmt.Errorf("node ID %q is none", request.NodeID)
	}
	if err := c.cfg.Offer.reaches(request.offer()); err != nil {
		return joinAnswer{}, err
	}
	cert, err := signRequest(&id, request.NodeID, request.Request)
	if err != nil {
		return joinAnswer{}, err
	}
	peers := c.board.addresses()
	c.log.Info("let a node in", "node", request.NodeID, "from", conn.RemoteAddr().String())
	return joinAnswer{
		ClusterID: id.ClusterID, Generation: id.Generation, CACert: id.CACert, CAKey: id.CAKey, Cert: cert,
		GossipKey: id.GossipKey, APISecret: id.APISecret, Peers: peers[:min(len(peers), maxPeers)],
		speaker: speakerOf(c.cfg.Offer),
	}, nil
}

func validNodeID(id string) bool {
	if len(id) != 16 {
		return false
	}
	for _, r := range id {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return true
}

// serve answers each connection of a lane, a few seconds each, and returns when
// the lane is closed and all are answered.
func serve(ctx context.Context, l *lane, answer func(net.Conn)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil {
			return nil // closed: there is no other error
		}
		wg.Go(func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(handshakeTimeout))
			answer(conn)
		})
	}
}
