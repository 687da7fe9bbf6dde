package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// handles is how the command line on the same machine finds a node: node.json,
// and beside it the tokens, which root alone can read.
type handles struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	API     string `json:"api"`     // URL
	Cluster string `json:"cluster"` // host:port

	token, join string
}

const (
	handlesFile   = "node.json"
	apiTokenFile  = "api-token"
	joinTokenFile = "join-token"
)

func writeHandles(dir string, h handles) error {
	data, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", handlesFile, err)
	}
	for name, text := range map[string]string{handlesFile: string(data) + "\n", apiTokenFile: h.token + "\n", joinTokenFile: h.join + "\n"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}
