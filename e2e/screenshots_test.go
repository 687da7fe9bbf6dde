package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// TestScreenshots takes pictures of the pages, wide and as a phone has them, light and dark.
// Nothing may be wider than the screen. `make screenshots` keeps the pictures.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("NARWHAL_SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	must(t, os.MkdirAll(dir, 0o755))
	l := cluster(t, lab.Options{})
	b := newTab(t)
	_, at := newRoad(t, l.Nodes[0])
	b.do(chromedp.Navigate(at+"/"), chromedp.WaitVisible("#token"))
	b.shot(dir, "sign-in", true, false)
	b.signIn(at, l.Nodes[0])
	shown, failed := scene(t, l)
	for name, path := range map[string]string{
		"builds": "/", "build": fmt.Sprintf("/builds/%d", shown), "log": fmt.Sprintf("/jobs/%s/log", failed), "nodes": "/nodes",
	} {
		b.do(chromedp.Navigate(at+path), chromedp.WaitVisible("#main"))
		b.until("the page's words", `document.querySelector("main").textContent.trim() !== ""`)
		for _, phone := range []bool{false, true} {
			for _, dark := range []bool{false, true} {
				b.shot(dir, name, dark, phone)
			}
		}
	}
	b.wantNoProblems()
}

// kept are the pictures that are worth their bytes in the repository.
var kept = map[string]bool{"builds-light": true, "builds-phone-dark": true, "build-light": true, "build-dark": true, "log-dark": true, "log-phone-light": true}

// shot takes a picture of what the tab shows.
func (b *tab) shot(dir, name string, dark, phone bool) {
	b.t.Helper()
	scheme, width, height := "light", int64(1280), int64(800)
	if dark {
		scheme = "dark"
	}
	if phone {
		name, width, height = name+"-phone", 390, 800
	}
	name += "-" + scheme
	var png []byte
	b.do(chromedp.EmulateViewport(width, height),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}),
		chromedp.CaptureScreenshot(&png))
	if got := eval[int64](b, `document.documentElement.scrollWidth`); got > width {
		b.t.Errorf("%s is %d pixels wide on a screen of %d", name, got, width)
	}
	if kept[name] || os.Getenv("NARWHAL_SCREENSHOTS") == "" {
		must(b.t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644))
	}
}

// scene has builds on a cluster as a team has them: one whose jobs stand in all ways, and
// one that failed, of which it returns the job.
func scene(t *testing.T, l *lab.Lab) (shown fsm.BuildID, failed fsm.JobID) {
	t.Helper()
	c := anyNode(t, l)
	r, err := lab.NewRepository(filepath.Join(t.TempDir(), "repository"), "acme/lighthouse")
	must(t, err)
	build := func(branch, author, message, file string) fsm.BuildID {
		made, err := c.CreateBuild(deadline(t, patience), api.NewBuild{
			Repo: r.Name, CloneURL: r.URL(), SHA: commit(t, r, file), Ref: "refs/heads/" + branch, Message: message, Author: author,
		}, client.NewKey())
		must(t, err)
		return made.ID
	}
	const quick = small + "jobs:\n  test: {steps: [{name: test, command: echo ok}]}\n"
	wantEnd := func(id fsm.BuildID, want fsm.Status) api.Build {
		out := ended(t, c, id)
		wantStatus(t, out, want)
		return out
	}
	wantEnd(build("main", "otter", "lamp: turn the lens twice a minute", quick), fsm.Passed)
	wantEnd(build("fog", "puffin", "horn: sound it when the lamp can't be seen", quick), fsm.Passed)
	bad := wantEnd(build("keeper", "heron", "keeper: sleep by day", small+`
jobs:
  test:
    steps:
      - name: fetch
        command: printf '\033[36m==>\033[0m fetching 14 modules\n'; seq -f 'module-%g' 14
      - name: unit tests
        command: |
          for p in lamp horn lens tower; do printf '\033[32mok\033[0m    lighthouse/%s\t0.0%ss\n' $p 4; done
          printf '\033[1;31m--- FAIL: TestSleepsByDay\033[0m (0.00s)\n    keeper_test.go:31: at noon the keeper is \033[33mawake\033[0m, want \033[33masleep\033[0m\n'
          printf '\033[31mFAIL\033[0m  lighthouse/keeper\t0.012s\n'; exit 1
      - name: publish
        command: "true"
`), fsm.Failed)
	id := build("main", "otter", "tower: paint it red and white", small+`
jobs:
  fetch: {steps: [{name: fetch, command: echo fetched}]}
  lint: {needs: [fetch], steps: [{name: vet, command: "true"}, {name: staticcheck, command: "true"}]}
  unit: {needs: [fetch], steps: [{name: unit, command: echo ok; sleep 600}]}
  docs: {needs: [fetch], allow_failure: true, steps: [{name: links, command: exit 4}]}
  arm64: {needs: [fetch], labels: {arch: arm64}, steps: [{name: build, command: "true"}]}
  package: {needs: [lint, unit], steps: [{name: pack, command: "true"}]}
  deploy: {needs: [lint], when: {manual: true}, steps: [{name: deploy, command: "true"}]}
`)
	until(t, c, id, "its jobs stand in all ways", func(b api.Build) bool {
		for name, status := range map[string]fsm.Status{"unit": fsm.Running, "docs": fsm.Failed, "deploy": fsm.Held, "lint": fsm.Passed, "arm64": fsm.Queued} {
			if j, ok := find(b, name); !ok || j.Status != status {
				return false
			}
		}
		return true
	})
	return id, job(t, bad, "test").ID
}
