package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// fromEnvironment sets every flag that was not given from its variable:
// --data-dir from NARWHAL_DATA_DIR. Lists are separated by commas.
func fromEnvironment(cmd *cobra.Command) error {
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value, set := os.LookupEnv(variable(f.Name))
		if !set || f.Changed || failed != nil || f.Name == "help" {
			return
		}
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			failed = usage("%s: %w", variable(f.Name), err)
		}
	})
	return failed
}

// variable is the environment variable of a flag.
func variable(flag string) string {
	return "NARWHAL_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// secretFile reads a secret from a file, without the newline at its end.
func secretFile(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}
