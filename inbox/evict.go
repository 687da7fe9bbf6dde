package inbox

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// count changes the sums of what was verified.
func count(tx *bbolt.Tx, deliveries, bytes int64) error {
	n, size := counted(tx)
	data := binary.BigEndian.AppendUint64(nil, uint64(n+deliveries))
	return tx.Bucket(sums).Put(verified, binary.BigEndian.AppendUint64(data, uint64(size+bytes)))
}

func counted(tx *bbolt.Tx) (deliveries, bytes int64) {
	data := tx.Bucket(sums).Get(verified)
	if len(data) != 16 {
		return 0, 0
	}
	return int64(binary.BigEndian.Uint64(data)), int64(binary.BigEndian.Uint64(data[8:]))
}

// expire lets go what is too old or too much, the oldest first.
func (b *Inbox) expire(tx *bbolt.Tx, now time.Time) error {
	oldest := firstID(now.Add(-b.bounds.Age))
	known := tx.Bucket(verified)
	for {
		n, size := counted(tx)
		k, v := known.Cursor().First()
		if k == nil || string(k) >= oldest && n <= int64(b.bounds.Count) && size <= b.bounds.Bytes {
			break
		}
		var d Delivery
		if err := json.Unmarshal(v, &d); err != nil {
			return err
		}
		if d.Status == Waiting {
			b.log.Warn("a webhook that could not be handed in is forgotten: there is no room for more", "hook", d.ID, "repo", d.Repo)
		}
		if err := errors.Join(known.Delete(k), tx.Bucket(bodies).Delete([]byte(d.ID)), count(tx, -1, -int64(d.Size))); err != nil {
			return err
		}
	}
	others := tx.Bucket(strangers)
	var gone [][]byte
	n := 0
	c := others.Cursor()
	for k, _ := c.Last(); k != nil; k, _ = c.Prev() {
		if n++; n > b.bounds.Strangers || string(k) < oldest {
			gone = append(gone, bytes.Clone(k))
		}
	}
	for _, k := range gone {
		if err := others.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// errUnfit is why a file is not trusted.
var errUnfit = errors.New("it can't be read to its end")

// readable reads the file to its end: bbolt maps it into memory, and where it is torn
// the process would end by a fault at whatever moment it comes to that page.
func readable(path string) (err error) {
	if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if reason := recover(); reason != nil { // bbolt's word on pages that it did not write, or a fault
			err = fmt.Errorf("%w: %v", errUnfit, reason)
		}
	}()
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if errors.Is(err, berrors.ErrTimeout) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUnfit, err)
	}
	sum := byte(0)
	err = db.View(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{verified, strangers} {
			bucket := tx.Bucket(name)
			if bucket == nil {
				continue
			}
			if err := bucket.ForEach(func(_, v []byte) error { return json.Unmarshal(v, &Delivery{}) }); err != nil {
				return fmt.Errorf("%w: %w", errUnfit, err)
			}
		}
		all := tx.Bucket(bodies)
		if all == nil {
			return nil
		}
		return all.ForEach(func(_, v []byte) error {
			for at := 0; at < len(v); at += os.Getpagesize() {
				sum += v[at]
			}
			return nil
		})
	})
	runtime.KeepAlive(sum) // or the compiler might leave out what is only read
	return errors.Join(err, db.Close())
}
