package client

import (
	"errors"
	"net"
)

// refused reports whether a request surely did not arrive: the connection was never
// made.
func refused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
