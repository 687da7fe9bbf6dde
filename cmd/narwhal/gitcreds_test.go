package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestGitCredentials(t *testing.T) {
	path := filepath.Join(t.TempDir(), "git")
	write := func(text string, mode os.FileMode, age time.Duration) {
		t.Helper()
		at := time.Now().Add(-age)
		for _, err := range []error{os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode), os.Chtimes(path, at, at)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	write("# ours\nhttps://bot:to%2Fken@Git.example.com\n\nhttp://ci:plain@127.0.0.1:8080/\n", 0o600, time.Hour)
	c, err := openGitCredentials(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"https://git.example.com/acme/api.git":                "bot to/ken",
		"http://127.0.0.1:8080/acme/api.git":                  "ci plain",
		"http://git.example.com/acme/api.git":                 "", // in the clear
		"https://git.example.com:8443/acme/api.git":           "",
		"https://git.example.com.evil.example/acme/api":       "",
		"https://evil.example/https://git.example.com/x":      "",
		"ssh://git@git.example.com/acme/api.git":              "",
		"git@git.example.com:acme/api.git":                    "",
		"https://evil.example/acme/api.git?x=git.example.com": "",
	} {
		user, secret, ok := c.find(url)
		if got := strings.TrimSpace(user + " " + secret); got != want || ok != (want != "") {
			t.Errorf("%s gets %q, want %q", url, got, want)
		}
	}
	write("https://bot:newer@git.example.com\n", 0o600, time.Minute)
	if _, secret, _ := c.find("https://git.example.com/a"); secret != "newer" {
		t.Errorf("after a change it gets %q", secret)
	}
	write("oops", 0o600, 0)
	if _, secret, _ := c.find("https://git.example.com/a"); secret != "newer" {
		t.Errorf("after a mistake it gets %q", secret)
	}

	for _, bad := range []struct{ text, says string }{
		{"\nhttps://git.example.com", "line 2"}, {"https://hunter2@h", "token"}, {"https://u:@h", "token"}, {"https://:hunter2@h", "user"},
		{"https://u:hunter2@h/acme", "whole host"}, {"ssh://u:hunter2@h", "line 1"}, {"u:hunter2@h", "line 1"}, {"https://u:hunter2%zz@h", "line 1"},
		{"https://u:hunter2@h\nhttps://v:hunter2@H", "line 2"},
	} {
		write(bad.text, 0o600, 0)
		if _, err := openGitCredentials(path, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), bad.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", bad.text, err)
		}
	}
	write("https://u:hunter2@h", 0o644, 0)
	if _, err := openGitCredentials(path, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that all can read: %v", err)
	}
}
