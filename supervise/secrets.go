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

// maxSecrets is how many bytes a job's secrets have together, at most.
const maxSecrets = 1 << 20

// Fits is an error where Begin would not take the secrets.
func Fits(values map[string]string) error {
	size := 0
	for name, value := range values {
		size += len(name) + len(value)
	}
	if size > maxSecrets {
		return fmt.Errorf("the secrets that the job names have %d KiB together, more than %d KiB", size>>10, maxSecrets>>10)
	}
	return nil
}

// takeSecrets reads SecretsFile and empties it. There is one only where a narwhal of a
// version before this one, whose program has been replaced while it ran, has started
// the job.
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
