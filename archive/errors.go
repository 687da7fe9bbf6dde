package archive

import "errors"

var (
	// ErrTooLarge is returned when files or an archive are larger, or more, than a limit.
	ErrTooLarge = errors.New("too large")
	// ErrUnsafe is returned for an archive with an entry that has no business in
	// one of ours: it leads out, is no file, or stands in another's way.
	ErrUnsafe = errors.New("unsafe archive")
	// ErrCorrupt is returned for bytes that are no whole archive.
	ErrCorrupt = errors.New("corrupt archive")
	// ErrPath is returned for a path that can't be packed or looked for.
	ErrPath = errors.New("invalid path")
	// ErrNotFound is returned when an archive has no such file.
	ErrNotFound = errors.New("no such file in the archive")
)
