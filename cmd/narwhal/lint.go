package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/pipeline/sketch"
)

// fileCommands are the commands about narwhal.yml itself, which need no node.
func fileCommands() []*cobra.Command {
	return []*cobra.Command{runCommand(), lintCommand(), initCommand(), schemaCommand()}
}

// fileNames are where a repository keeps its file, the first that is there.
var fileNames = []string{"narwhal.yml", ".narwhal.yml"}

func lintCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "lint [FILE]", Short: "Check a narwhal.yml: all that is wrong with it, at once", Args: cobra.MaximumNArgs(1),
		Long: "Check a narwhal.yml, without a node: all that is wrong with it at once, as FILE:LINE:COLUMN. The exit\nstatus is 0 if it is right, else 2; warnings don't count. - is standard input.",
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, data, err := readPipeline(cmd.InOrStdin(), args)
		if err != nil {
			return exitError{code: exitUsage, err: err}
		}
		return lint(cmd.OutOrStdout(), name, data, asJSON)
	}
	return cmd
}

// readPipeline reads the file that was named, or the one of this folder.
func readPipeline(stdin io.Reader, args []string) (name string, data []byte, err error) {
	const most = pipeline.MaxSize + 1 // Read says what is too large
	switch {
	case len(args) > 0 && args[0] == "-":
		data, err = io.ReadAll(io.LimitReader(stdin, most))
		return "standard input", data, err
	case len(args) > 0:
		data, err = readSome(args[0], most)
		return args[0], data, err
	}
	for _, name := range fileNames {
		data, err := readSome(name, most)
		if !errors.Is(err, fs.ErrNotExist) {
			return name, data, err
		}
	}
	return "", nil, fmt.Errorf("there is neither %s nor %s here: `narwhal init` writes one", fileNames[0], fileNames[1])
}

func readSome(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, most))
}

func lint(out io.Writer, name string, data []byte, asJSON bool) error {
	file, err := pipeline.Read(name, data, pipeline.Options{})
	var found struct {
		Errors   pipeline.Errors `json:"errors"`
		Warnings pipeline.Errors `json:"warnings"`
	}
	found.Errors, found.Warnings = pipeline.Errors{}, pipeline.Errors{}
	if err != nil && !errors.As(err, &found.Errors) {
		return err
	}
	if err == nil {
		found.Warnings = append(found.Warnings, file.Warnings...)
	}
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		if err := enc.Encode(found); err != nil {
			return err
		}
	} else {
		for _, e := range found.Errors {
			fmt.Fprintln(out, e)
		}
		for _, e := range found.Warnings {
			fmt.Fprintf(out, "%s:%d:%d: warning: %s\n", e.File, e.Line, e.Column, e.Message)
		}
	}
	if len(found.Errors) > 0 {
		return exitError{code: exitUsage}
	}
	return nil
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of narwhal.yml, for editors", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(pipeline.Schema())
			return err
		},
	}
}

func initCommand() *cobra.Command {
	var force bool
	var dir string
	cmd := &cobra.Command{
		Use: "init", Short: "Write a first narwhal.yml that fits this repository", Args: cobra.NoArgs,
		Long: "Write a first narwhal.yml that fits what lies in this folder: Go, Node, Python, Rust, C or Make, else\nshell. It is a beginning: read it, and try it by `narwhal run`.",
	}
	cmd.Flags().BoolVar(&force, "force", false, "write over a file that is there")
	cmd.Flags().StringVarP(&dir, "directory", "C", ".", "the `folder` of the repository")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, root.Close()) }()
		for _, name := range fileNames {
			if _, err := root.Lstat(name); err == nil && !force {
				return fmt.Errorf("%s is there already: --force writes over it", name)
			}
		}
		if err := root.WriteFile(fileNames[0], sketch.File(root.FS()), 0o644); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "narwhal: wrote %s; check it by `narwhal lint`, try it by `narwhal run`\n", fileNames[0])
		return nil
	}
	return cmd
}
