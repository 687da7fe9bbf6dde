package cluster

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// What a peer can make this node hold in memory, bytes.
const (
	maxMessage = 1 << 20
	maxRequest = 16 << 10 // of one that has no certificate
)

// writeMessage sends one CBOR message with its length before it.
func writeMessage(w io.Writer, v any) error {
	body, err := cbor.Marshal(v)
	if err != nil {
		return fmt.Errorf("marshal message: %w", err)
	}
	if _, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	return nil
}

func readMessage(r io.Reader, v any) error { return readBounded(r, v, maxMessage) }

func readBounded(r io.Reader, v any, most uint32) error {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > most {
		return fmt.Errorf("read message: %d bytes is too long", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	if err := cbor.Unmarshal(body, v); err != nil {
		return fmt.Errorf("unmarshal message: %w", err)
	}
	return nil
}

// wait returns after d, or earlier with false when ctx has ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
