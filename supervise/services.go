package supervise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// services returns when every service takes connections, or the first error.
func (r *run) services(ctx context.Context) error {
	if len(r.task.Services) == 0 {
		return nil
	}
	errs := make([]error, len(r.task.Services))
	var dialling sync.WaitGroup
	for i, s := range r.task.Services {
		dialling.Go(func() {
			if errs[i] = s.await(ctx); errs[i] == nil {
				r.log.Printf("service %s takes connections on port %d", s.Name, s.Port)
			}
		})
	}
	dialling.Wait()
	return errors.Join(errs...)
}

// await dials the service until it takes connections or its time is up.
func (s Service) await(ctx context.Context) error {
	timeout := s.Timeout
	if timeout <= 0 {
		timeout = DefaultReady
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last error
	for {
		dialer := net.Dialer{Timeout: 5 * time.Second}
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(s.Name, strconv.Itoa(s.Port)))
		if err == nil {
			_ = conn.Close()
			return nil
		}
		if slow := net.Error(nil); last == nil || !errors.As(err, &slow) || !slow.Timeout() {
			last = err // says more than that time is up
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return fmt.Errorf("service %s did not take connections on port %d within %s: %w", s.Name, s.Port, timeout, last)
		}
	}
}
