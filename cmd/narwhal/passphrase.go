package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// passphrase is where one comes from: a file, the terminal, which does not show it, or
// the first line of standard input.
type passphrase struct{ file string }

func (p *passphrase) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.file, "passphrase-file", "", "the `file` with the passphrase (default: asked for on the terminal, else the first line of standard input)")
}

// choose reads a new one: who types it types it twice.
func (p *passphrase) choose(cmd *cobra.Command) (string, error) {
	first, err := p.read(cmd, "new passphrase: ")
	if err != nil || p.file != "" || terminal(cmd) == nil {
		return first, err
	}
	again, err := p.read(cmd, "once more: ")
	if err == nil && again != first {
		err = errors.New("the two passphrases differ")
	}
	return first, err
}

func (p *passphrase) read(cmd *cobra.Command, prompt string) (string, error) {
	phrase, err := p.from(cmd, prompt)
	switch {
	case err != nil:
		return "", err
	case phrase == "":
		return "", errors.New("the passphrase is empty: give --passphrase-file")
	}
	return phrase, nil
}

func (p *passphrase) from(cmd *cobra.Command, prompt string) (string, error) {
	if p.file != "" {
		phrase, err := secretFile(p.file)
		if err != nil {
			return "", fmt.Errorf("--passphrase-file: %w", err)
		}
		return phrase, nil
	}
	if f := terminal(cmd); f != nil {
		fmt.Fprint(cmd.ErrOrStderr(), prompt)
		typed, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		if err != nil {
			return "", fmt.Errorf("read passphrase: %w", err)
		}
		return string(typed), nil
	}
	const most = 4096 // bytes; longer ones are cut off by no intention of anybody's
	in := bufio.NewScanner(cmd.InOrStdin())
	in.Buffer(make([]byte, 0, most), most)
	in.Scan()
	if err := in.Err(); err != nil {
		return "", fmt.Errorf("read passphrase from standard input: %w", err)
	}
	return strings.TrimRight(in.Text(), "\r"), nil
}

// terminal is standard input where that is one, else nil.
func terminal(cmd *cobra.Command) *os.File {
	if f, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}
