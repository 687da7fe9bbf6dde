package agent

import (
	"os"
	"path/filepath"
	"testing"
)

func FuzzPayload(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal("no testdata", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, event := range []string{"push", "pull_request", ""} {
			f.Add(event, data)
		}
	}
	f.Fuzz(func(t *testing.T, event string, body []byte) {
		for _, path := range []string{"/hooks/github", "/commit"} {
			var q recorder
			r := delivery("x", string(body), acmeSecret)
			r.URL.Path = path
			r.Header.Set("X-GitHub-Event", event)
			status, answer, _ := post(t, Config{Secret: acmeSecret}, &q, r)
			if status >= 500 || (status == 202) != (len(q.commits) == 1) {
				t.Fatalf("answered %d %s, queued %d", status, answer, len(q.commits))
			}
			for _, c := range q.commits {
				if err := CheckCommit(c, []string{"https", "ssh"}); err != nil {
					t.Fatalf("queued %+v: %v", c, err)
				}
				sent, err := encodeMessage(c, "")
				if err != nil {
					t.Fatal(err)
				}
				if m, err := decodeMessage(sent); err != nil || m.Commit.Key() != c.Key() {
					t.Fatalf("its message can't be read: %v", err)
				}
			}
		}
	})
}

func FuzzMessage(f *testing.F) {
	good, err := encodeMessage(someCommit(1), "d")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, body []byte) {
		if m, err := decodeMessage(body); err == nil {
			if err := CheckCommit(m.Commit, nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}
