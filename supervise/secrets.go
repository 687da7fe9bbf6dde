package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxSecrets bounds SecretsFile, in bytes.
const maxSecrets = 1 << 20

// WriteSecrets leaves the values, by name, in the folder dir for Main. The folder
// should be of a file system in memory: the file is emptied when it has been read,
// which disks don't promise to forget by.
func WriteSecrets(dir string, values map[string]string) error {
	data, err := json.Marshal(values)
	if err != nil {
		return fmt.Errorf("write secrets: %w", err)
	}
	if len(data) > maxSecrets {
		return fmt.Errorf("write secrets: they have %d bytes, more than %d", len(data), maxSecrets)
	}
	// Writable by all: the container's user is not ours, and has to empty it.
	path := filepath.Join(dir, SecretsFile)
	if err := os.WriteFile(path, data, 0o666); err != nil {
		return fmt.Errorf("write secrets: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return fmt.Errorf("write secrets: %w", err)
	}
	return nil
}

// takeSecrets reads what WriteSecrets left and empties the file. There need be
// none.
func takeSecrets(dir string) (values map[string]string, err error) {
	file, err := os.OpenFile(filepath.Join(dir, SecretsFile), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("take secrets: %w", err)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxSecrets))
	if err != nil {
		return nil, fmt.Errorf("take secrets: %w", err)
	}
	if err := file.Truncate(0); err != nil {
		return nil, fmt.Errorf("take secrets: the file could not be emptied: %w", err)
	}
	if len(data) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(data, &values); err != nil {
		return nil, errors.New("take secrets: the file holds no JSON object of texts") // the error would quote it
	}
	return values, nil
}

// hide keeps processes of the same user from reading this one's memory.
func hide() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hide from the steps: %w", err)
	}
	return nil
}
