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
			if status >= 500 || (status == 202) != (len(q.commits)+len(q.deleted) == 1) {
				t.Fatalf("answered %d %s, queued %d and %d", status, answer, len(q.commits), len(q.deleted))
			}
			for _, d := range q.deleted {
				sent, err := (&message{Version: deletionVersion, Deleted: &d}).encode()
				if err != nil {
					t.Fatal(err)
				}
				if m, err := decodeMessage(sent); err != nil || *m.Deleted != d {
					t.Fatalf("its message can't be read: %v", err)
				}
			}
			for _, c := range q.commits {
				if err := CheckCommit(c, []string{"https", "ssh"}); err != nil {
					t.Fatalf("queued %+v: %v", c, err)
				}
				sent, err := (&message{Version: commitVersion, Commit: c}).encode()
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
	for _, m := range []message{
		{Version: commitVersion, Commit: someCommit(1), Delivery: "d"},
		{Version: deletionVersion, Deleted: &Deletion{"acme/api", "old", sha(1)}},
	} {
		good, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(good)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if m, err := decodeMessage(body); err == nil {
			err := CheckCommit(m.Commit, nil)
			if m.Deleted != nil {
				err = CheckDeletion(*m.Deleted)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}
