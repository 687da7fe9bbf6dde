package executor_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
)

// registry serves one image under any name, to those who know the password where
// there is one. It lives on the loopback, where engines ask for
// no TLS.
type registry struct {
	host  string
	blobs map[string][]byte
	gate  chan struct{} // closed where nobody has to wait for the layer

	password string // empty lets everybody in

	mu     sync.Mutex
	layers int      // how often the layer was asked for
	users  []string // who asked for a manifest
}

func digest(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// newRegistry makes an image of a static shell, different from all others.
func newRegistry(t *testing.T, password string) *registry {
	t.Helper()
	r := &registry{blobs: make(map[string][]byte), gate: make(chan struct{}), password: password}
	busy, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("%v: run scripts/deps.sh busybox", err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	write := func(h *tar.Header, data []byte) {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	write(&tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	write(&tar.Header{Name: "bin/sh", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(busy))}, busy)
	name := []byte(newNode())
	write(&tar.Header{Name: "unique", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(name))}, name)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":[%q]}}`, digest(layer.Bytes()))
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":%d,"digest":%q},
		"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar","size":%d,"digest":%q}]}`,
		manifestType, len(config), digest(config), layer.Len(), digest(layer.Bytes()))
	r.blobs[digest(layer.Bytes())], r.blobs[digest(config)], r.blobs["manifest"] = layer.Bytes(), config, manifest
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.host = strings.TrimPrefix(server.URL, "http://")
	c := api(t)
	t.Cleanup(func() { // what the engine has of it still
		found, err := c.ImageList(context.Background(), image.ListOptions{})
		if err != nil {
			t.Error(err)
		}
		for _, i := range found {
			if slices.ContainsFunc(append(i.RepoTags, i.RepoDigests...), func(n string) bool { return strings.HasPrefix(n, r.host+"/") }) {
				if _, err := c.ImageRemove(context.Background(), i.ID, image.RemoveOptions{Force: true}); err != nil && !errdefs.IsNotFound(err) {
					t.Error(err)
				}
			}
		}
	})
	return r
}

const manifestType = "application/vnd.docker.distribution.manifest.v2+json"

func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	user, password, _ := q.BasicAuth()
	if r.password != "" && (user != "ci" && user != "cd" || password != r.password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	parts := strings.Split(q.URL.Path, "/")
	kind, id := parts[max(len(parts)-2, 0)], parts[len(parts)-1]
	switch {
	case q.URL.Path == "/v2/":
	case kind == "manifests":
		r.mu.Lock()
		r.users = append(r.users, user)
		r.mu.Unlock()
		w.Header().Set("Content-Type", manifestType)
		w.Header().Set("Docker-Content-Digest", digest(r.blobs["manifest"]))
		_, _ = w.Write(r.blobs["manifest"])
	case kind == "blobs" && r.blobs[id] != nil:
		if len(r.blobs[id]) > 10_000 {
			r.mu.Lock()
			r.layers++
			r.mu.Unlock()
			<-r.gate
		}
		_, _ = w.Write(r.blobs[id])
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (r *registry) asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.layers
}

// TestOnePullForAll has ten jobs want an image whose registry takes its time.
func TestOnePullForAll(t *testing.T) {
	r, k := newRegistry(t, ""), newDocker(t)
	name := r.host + "/public/shell:1"
	var wg sync.WaitGroup
	tasks := make([]executor.Task, 10)
	for i := range tasks {
		tasks[i] = k.task(t, "echo ran")
		tasks[i].Work.Spec.Image = name
		wg.Go(func() {
			run, err := k.ex.Start(t.Context(), tasks[i])
			if err != nil {
				t.Error(err)
				return
			}
			if o, err := run.Wait(t.Context()); err != nil || o.Status != fsm.Passed {
				t.Errorf("got %+v, %v", o, err)
			}
		})
	}
	for _, task := range tasks { // all of them wait before the registry gives anything
		untilOwn(t, task, "pulling image "+name)
	}
	close(r.gate)
	wg.Wait()
	if n := r.asked(); n != 1 {
		t.Errorf("the layer was asked for %d times", n)
	}
	for _, task := range tasks {
		if text := own(t, task); !strings.Contains(text, "pulled image "+name) || printed(t, task) != "ran\n" {
			t.Errorf("the log says:\n%s", text)
		}
	}
	names, err := k.ex.(*executor.Docker).Images(t.Context())
	if err != nil || !slices.Contains(names, name) || !slices.Contains(names, busybox) {
		t.Errorf("images: %v, %v", names, err)
	}
	task := k.task(t, "echo ran")
	task.Work.Spec.Image = name
	expect(t, k.run(t, task), fsm.Passed, "", "")
	if text := own(t, task); strings.Contains(text, "pull") {
		t.Errorf("what is here was pulled:\n%s", text)
	}
}

func TestPullPolicies(t *testing.T) {
	r := newRegistry(t, "")
	close(r.gate)
	name := r.host + "/public/shell:2"
	try := func(policy executor.PullPolicy) (fsm.Outcome, string) {
		k := newDocker(t, func(c *executor.DockerConfig) { c.PullPolicy = policy })
		task := k.task(t, "echo ran")
		task.Work.Spec.Image = name
		return k.run(t, task), own(t, task)
	}
	o, _ := try(executor.PullNever)
	expect(t, o, fsm.Errored, fsm.CauseImagePull, "policy is to pull none")
	for range 2 {
		o, text := try(executor.PullAlways)
		expect(t, o, fsm.Passed, "", "")
		if !strings.Contains(text, "pulled image") {
			t.Errorf("the log says:\n%s", text)
		}
	}
	o, _ = try(executor.PullNever)
	expect(t, o, fsm.Passed, "", "")
	cfg := executor.DockerConfig{Binary: supervisor, Cluster: cluster, Node: newNode(), PullPolicy: "sometimes"}
	if _, err := executor.NewDocker(cfg, logger(t)); err == nil {
		t.Error("there is a policy \"sometimes\"")
	}
}

// TestCredentials: an image that took some is not for jobs that have none, though
// it is here.
func TestCredentials(t *testing.T) {
	r := newRegistry(t, "pa55")
	close(r.gate)
	k := newDocker(t, func(c *executor.DockerConfig) { c.Dir = t.TempDir() })
	name := r.host + "/private/shell:1"
	right, wrong := executor.Credentials{Username: "ci", Password: "pa55"}, executor.Credentials{Username: "ci", Password: "w0rd"}
	try := func(k *kit, image string, given ...executor.Credentials) (fsm.Outcome, string) {
		t.Helper()
		task := k.task(t, "echo ran")
		task.Work.Spec.Image = image
		for _, c := range given {
			task.Registries = map[string]executor.Credentials{r.host: c}
		}
		o := k.run(t, task)
		data, err := os.ReadFile(filepath.Join(task.Dir, "log"))
		if text := o.Message + string(data); err != nil || strings.Contains(text, "pa55") || strings.Contains(text, "w0rd") {
			t.Errorf("a password is told, or %v:\n%s", err, text)
		}
		return o, own(t, task)
	}
	refused := func(o fsm.Outcome, _ string) {
		t.Helper()
		expect(t, o, fsm.Errored, fsm.CauseImagePull, name)
	}
	refused(try(k, name))
	refused(try(k, name, wrong))
	o, _ := try(k, name, right)
	expect(t, o, fsm.Passed, "", "")
	if o, text := try(k, name, right); o.Status != fsm.Passed || strings.Contains(text, "pull") {
		t.Errorf("the second time: %+v\n%s", o, text)
	}
	refused(try(k, name))
	refused(try(k, name, wrong))
	found, err := api(t).ImageInspect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := try(k, found.ID); o.Status == fsm.Passed {
		t.Error("by its ID it was given to a job without credentials")
	}
	again := newDocker(t, func(c *executor.DockerConfig) { c.Dir = k.docker.Dir })
	refused(try(again, name))
	o, _ = try(again, name, right)
	expect(t, o, fsm.Passed, "", "")
	if data, err := os.ReadFile(filepath.Join(k.docker.Dir, "images.json")); err != nil || strings.Contains(string(data), "pa55") {
		t.Errorf("the record is %s, %v", data, err)
	}
}

// start starts a job with credentials that waits for the registry's layer.
func (r *registry) start(t *testing.T, k *kit, name, user, password string) (task executor.Task, outcome func() fsm.Outcome) {
	t.Helper()
	task = k.task(t, "echo ran")
	task.Work.Spec.Image = name
	task.Registries = map[string]executor.Credentials{r.host: {Username: user, Password: password}}
	done := make(chan fsm.Outcome, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		run, err := k.ex.Start(t.Context(), task)
		if err != nil {
			t.Error(err)
			done <- fsm.Outcome{}
			return
		}
		o, err := run.Wait(t.Context())
		if err != nil {
			t.Error(err)
		}
		done <- o
	})
	t.Cleanup(wg.Wait)
	untilOwn(t, task, "pulling image "+name)
	return task, func() fsm.Outcome { return <-done }
}

func (r *registry) askers() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Compact(slices.Clone(r.users))
}

func (r *registry) awaitLayer(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); r.asked() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody asks for the layer")
		}
	}
}

// TestOnePullAtATime: one with other credentials waits for the pull that is under way,
// and is then asked for his own.
func TestOnePullAtATime(t *testing.T) {
	r, k := newRegistry(t, "pa55"), newDocker(t)
	open := sync.OnceFunc(func() { close(r.gate) })
	t.Cleanup(open)
	name := r.host + "/private/shell:2"
	_, first := r.start(t, k, name, "ci", "pa55")
	r.awaitLayer(t)
	_, second := r.start(t, k, name, "cd", "pa55")
	_, third := r.start(t, k, name, "ci", "w0rd")
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got := r.askers(); !slices.Equal(got, []string{"ci"}) {
			t.Errorf("two pulls at a time: the manifest was asked for by %v", got)
			break
		}
	}
	open()
	expect(t, first(), fsm.Passed, "", "")
	expect(t, second(), fsm.Passed, "", "")
	expect(t, third(), fsm.Errored, fsm.CauseImagePull, name)
	if got, n := r.askers(), r.asked(); !slices.Contains(got, "cd") || n != 1 {
		t.Errorf("asked by %v, the layer %d times", got, n)
	}
}

// TestCrashBeforeAnImageIsRecorded has narwhal's folder be as a crash in the middle of
// the pull of a private image leaves it, and the engine end the pull by itself.
func TestCrashBeforeAnImageIsRecorded(t *testing.T) {
	r := newRegistry(t, "pa55")
	open := sync.OnceFunc(func() { close(r.gate) })
	t.Cleanup(open)
	k := newDocker(t, func(c *executor.DockerConfig) { c.Dir = t.TempDir() })
	name := r.host + "/private/shell:3"
	_, first := r.start(t, k, name, "ci", "pa55")
	r.awaitLayer(t)
	crashed := filepath.Join(t.TempDir(), "crashed")
	if err := os.CopyFS(crashed, os.DirFS(k.docker.Dir)); err != nil {
		t.Fatal(err)
	}
	open()
	expect(t, first(), fsm.Passed, "", "")
	if _, err := os.Stat(filepath.Join(crashed, "images.json")); err == nil {
		t.Fatal("the image was recorded before it came")
	}
	found, err := api(t).ImageInspect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	next := newDocker(t, func(c *executor.DockerConfig) { c.Dir = crashed })
	for _, image := range []string{found.ID, name} {
		task := next.task(t, "echo ran")
		task.Work.Spec.Image = image
		if o := next.run(t, task); o.Status != fsm.Errored || o.Cause != fsm.CauseImagePull {
			t.Errorf("%s was given to a job without credentials: %+v", image, o)
		}
	}
	expect(t, next.run(t, next.task(t, "true")), fsm.Passed, "", "") // of an image that was there before
	_, right := r.start(t, next, name, "cd", "pa55")
	expect(t, right(), fsm.Passed, "", "")
	if data, err := os.ReadFile(filepath.Join(k.docker.Dir, "pulls.json")); err != nil || string(data) != "{}" {
		t.Errorf("pulls that are over are left: %s, %v", data, err)
	}
}

// TestTidy: what narwhal pulled and nobody uses goes, and nothing else.
func TestTidy(t *testing.T) {
	r, c := newRegistry(t, ""), api(t)
	close(r.gate)
	k := newDocker(t, func(c *executor.DockerConfig) { c.Dir = t.TempDir() })
	d, name := k.ex.(*executor.Docker), r.host+"/public/shell:3"
	there := func(want bool) {
		t.Helper()
		if _, err := c.ImageInspect(t.Context(), name); (err == nil) != want || err != nil && !errdefs.IsNotFound(err) {
			t.Errorf("the image is there: %v, want %t", err, want)
		}
		if _, err := c.ImageInspect(t.Context(), busybox); err != nil {
			t.Fatalf("an image that narwhal did not pull: %v", err)
		}
	}
	tidy := func(want bool) {
		t.Helper()
		freed, err := d.Tidy(t.Context(), 1<<40)
		if err != nil || (freed > 0) != want {
			t.Errorf("freed %d, %v", freed, err)
		}
		there(!want)
	}
	expect(t, k.run(t, k.task(t, "true")), fsm.Passed, "", "") // busybox is in the record too
	task := k.task(t, "echo up; until [ -e go ]; do :; done")
	task.Work.Spec.Image = name
	run := k.start(t, task)
	until(t, task, "up")
	tidy(false)
	touch(t, filepath.Join(task.Workspace, "go"))
	expect(t, wait(t, run), fsm.Passed, "", "")
	if freed, err := d.Tidy(t.Context(), 0); err != nil || freed != 0 {
		t.Errorf("nothing was wanted: %d, %v", freed, err)
	}
	there(true)
	if err := c.ImageTag(t.Context(), name, r.host+"/public/somebodys:1"); err != nil {
		t.Fatal(err)
	}
	tidy(false)
	if _, err := c.ImageRemove(t.Context(), r.host+"/public/somebodys:1", image.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	tidy(true)
	if freed, err := d.Tidy(t.Context(), 1<<40); err != nil || freed != 0 {
		t.Errorf("a second time: %d, %v", freed, err)
	}
	var record map[string]any
	data, err := os.ReadFile(filepath.Join(k.docker.Dir, "images.json"))
	if err != nil || json.Unmarshal(data, &record) != nil || len(record) != 1 {
		t.Errorf("the record is %s, %v", data, err)
	}
}
