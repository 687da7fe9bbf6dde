package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
)

// checkLogStore reads the log's file to its end before anything trusts it: bbolt maps
// it into memory, and where it is torn it would end the process by a fault at whatever
// moment it comes to that page. The error is ErrDamaged. What a page holds within an
// entry bbolt has no checksum of.
func checkLogStore(path string) (err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil // it is made anew; loadIdentity knows whether it may be
	}
	if err != nil {
		return err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if reason := recover(); reason != nil { // bbolt's word on pages that it did not write, or a fault
			err = fmt.Errorf("%w: %v", ErrDamaged, reason)
		}
	}()
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if errors.Is(err, fs.ErrPermission) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	sum := byte(0)
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(_, v []byte) error {
				for at := 0; at < len(v); at += os.Getpagesize() {
					sum += v[at]
				}
				if len(v) > 0 {
					sum += v[len(v)-1]
				}
				return nil
			})
		})
	})
	runtime.KeepAlive(sum) // or the compiler might leave out what is only read
	return errors.Join(err, db.Close())
}
