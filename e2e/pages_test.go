package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// TestPages looks at a cluster with a browser, over a road to one of its nodes.
func TestPages(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{})
	n := follower(t, l)
	r, at := newRoad(t, n)
	b := newTab(t)

	b.do(chromedp.Navigate(at+"/nodes"), chromedp.WaitVisible("#token"))
	b.do(chromedp.SendKeys("#token", "nwa_wrong\r"), chromedp.WaitVisible(".note.bad"))
	b.signIn(at, n)
	b.until("the page of no builds to say what to type", `document.querySelector(".empty code")?.textContent === "narwhal push"`)

	t.Run("builds", b.with(func(t *testing.T) { liveBuilds(t, l, b, at) }))
	t.Run("log", b.with(func(t *testing.T) { liveLog(t, l, b, r, at) }))
	t.Run("long log", b.with(func(t *testing.T) { longLog(t, l, b, at) }))
	b.do(chromedp.Click(".top form button"), chromedp.WaitVisible("#token"))
	b.wantNoProblems()
}

// liveBuilds has builds come about under the page of builds, goes to one by keys, and
// presses its buttons.
func liveBuilds(t *testing.T, l *lab.Lab, b *tab, at string) {
	c, r := anyNode(t, l), repository(t)
	const loaded = `window.loaded`
	b.do(chromedp.Evaluate(loaded+" = true", nil))
	sha := commit(t, r, small+`
jobs:
  first: {steps: [{command: sleep 600}]}
  nowhere: {labels: {planet: mars}, steps: [{command: "true"}]}
  second: {needs: [first], steps: [{command: "true"}]}
  deploy: {when: {manual: true}, steps: [{command: "true"}]}
`)
	const message = `<i>not markup</i> <img src=x onerror=alert(1)>`
	made, err := c.CreateBuild(deadline(t, patience), api.NewBuild{Repo: r.Name, CloneURL: r.URL(), SHA: sha, Message: message}, client.NewKey())
	must(t, err)
	b.until("the build on the page of builds", `document.querySelector("ol.builds .to[href='/builds/1']") !== null`)
	b.until("its status", `document.querySelector("ol.builds .running svg") !== null`)
	running(t, c, made.ID, "first")
	b.press("j")
	b.do(chromedp.KeyEvent("\r"), chromedp.WaitVisible("#jobs"))

	b.do(chromedp.Evaluate(loaded+" = true", nil))
	b.until("the job that runs", `document.querySelector(".graph .node.running title")?.textContent.startsWith("first")`)
	b.until("what another waits for", `[...document.querySelectorAll(".job .note")].some((n) => n.textContent.includes("planet=mars"))`)
	if got := b.text(".graph .node.blocked .label"); !slices.Equal(got, []string{"second"}) {
		t.Errorf("blocked is %q", got)
	}
	if got := eval[int](b, `document.querySelectorAll("main i").length`); got != 0 {
		t.Error("a commit's message has become markup")
	}
	if got := b.text("h1"); !slices.Equal(got, []string{message}) {
		t.Errorf("the message is %q", got)
	}
	b.do(chromedp.Click(".job .bar button.main"), chromedp.WaitVisible("#jobs"))
	b.until("the approval", `document.querySelector("#jobs").textContent.includes("approved by admin")`)
	b.do(chromedp.Evaluate(loaded+" = true", nil))
	_, err = c.CancelBuild(deadline(t, patience), made.ID)
	must(t, err)
	b.until("the end without a reload", loaded+` && document.querySelector("#facts .canceled svg") !== null && document.querySelector("#actions form[action$=retry]") !== null`)
	b.do(chromedp.Click("#actions button"))
	b.until("the retry", `location.pathname === "/builds/2" && document.querySelector("#actions form[action$=cancel]") !== null`)
	b.do(chromedp.Click("#actions button"))
	b.until("its end", `document.querySelector("#facts .canceled") !== null`)
	wantStatus(t, ended(t, c, made.ID+1), fsm.Canceled)

	b.do(chromedp.Navigate(at+"/"), chromedp.WaitVisible("ol.builds"))
	b.press("?")
	b.until("the list of keys", `document.querySelector("#keys").open`)
	b.do(chromedp.Click("#keys button"))
	b.until("it to be closed", `!document.querySelector("#keys").open`)
	b.press("/")
	b.until("the search to be focused", `document.activeElement.id === "q"`)
	b.do(chromedp.SendKeys("#q", "no such thing\r"))
	b.until("the page of what is not there", `document.querySelector(".empty a[href='/']") !== null`)
}

// liveLog watches a job print, while the connection is cut under the page again and again.
func liveLog(t *testing.T, l *lab.Lab, b *tab, road *road, at string) {
	c, r := anyNode(t, l), repository(t)
	dir := t.TempDir()
	made := trigger(t, c, r, commit(t, r, strings.ReplaceAll(small+`
steps:
  - name: speak
    command: |
      echo before the signs
      for sign in 1 2 3; do
        while [ ! -e DIR/$sign ]; do sleep 0.02; done
        printf '\033[31mred <b>%s</b>\033[0m\n' $sign
        seq -f "$sign-%g" 700
      done
  - name: last <script>alert(1)</script>
    command: echo the last step; exit 3
`, "DIR", dir)))
	runs := running(t, c, made.ID, "build")
	b.do(chromedp.Navigate(at+"/jobs/"+runs.ID.String()+"/log"), chromedp.WaitVisible("#lines"))
	b.until("the first line", `document.querySelector("#lines").textContent.includes("before the signs")`)
	for _, sign := range []string{"1", "2", "3"} {
		b.until("a live connection", `document.querySelector("#link").textContent === "live"`)
		if road.cut(false) == 0 {
			t.Error("there was no connection to cut")
		}
		must(t, os.WriteFile(filepath.Join(dir, sign), nil, 0o600))
		b.until("lines after the connection was cut", `document.querySelector("#lines").textContent.includes("`+sign+`-700")`)
	}
	wantStatus(t, ended(t, c, made.ID), fsm.Failed)
	b.until("the end of the log", `document.querySelector("#lines").dataset.ended !== undefined && document.querySelector("#state .failed") !== null`)

	want := strings.Split(strings.TrimSuffix(logText(t, c, runs.ID), "\n"), "\n")
	for i, line := range want {
		want[i] = strings.NewReplacer("\x1b[31m", "", "\x1b[0m", "").Replace(line)
	}
	shown := func() (out []string) {
		return eval[[]string](b, `[...document.querySelectorAll("#lines .chunk p")].map((p) => [...p.childNodes].slice(1).map((n) => n.textContent).join(""))`)
	}
	live := shown()
	if !slices.Equal(live, want) {
		t.Errorf("the page that was watched has %d lines, the log %d:\n%q", len(live), len(want), live[:min(10, len(live))])
	}
	if got := b.text("#lines .term-fg31"); len(got) != 3 || got[2] != "red <b>3</b>" {
		t.Errorf("what is red: %q", got)
	}
	b.until("the shapes of the steps", `document.querySelector("#step-0 .sum .passed svg") && document.querySelector("#step-1 .sum .failed svg") !== null`)
	b.do(chromedp.Reload(), chromedp.WaitVisible("#lines"))
	if again := shown(); !slices.Equal(again, want) {
		t.Errorf("the page that was loaded anew has %d lines, the log %d", len(again), len(want))
	}
	if got := eval[int](b, `document.querySelectorAll("#lines script, #lines b b").length`); got != 0 {
		t.Error("a step's name has become markup")
	}

	// The step that passed is folded; what is looked for in it opens it.
	if eval[bool](b, `document.querySelector("#step-0").open`) {
		t.Error("a step that passed is not folded beside one that failed")
	}
	b.press("/")
	b.until("the field to be focused", `document.activeElement.id === "find"`)
	b.do(chromedp.SendKeys("#find", "2-699"))
	b.until("the search", `document.querySelector("#found").textContent === "1 lines"`)
	b.do(chromedp.SendKeys("#find", "\r"))
	b.until("the line that was looked for", `document.querySelector(".hit.now") !== null && document.querySelector("#step-0").open`)
	b.do(chromedp.Click("#failure"))
	b.until("the first failure", `document.querySelector("p:target")?.textContent.includes("the last step")`)
	white := func() string {
		return eval[string](b, `getComputedStyle(document.querySelector("p:target")).whiteSpace`)
	}
	before := white()
	if b.do(chromedp.Click("#wrap")); before == white() {
		t.Errorf("lines are %q, wrapped or not", before)
	}
}

// longLog has all of 100,000 lines on a page, and finds one of them.
func longLog(t *testing.T, l *lab.Lab, b *tab, at string) {
	c, r := anyNode(t, l), repository(t)
	made := trigger(t, c, r, commit(t, r, small+"steps: [{name: count, command: seq -f 'this is line number %.0f of the log' 99900}]\n"))
	b1 := ended(t, c, made.ID)
	wantStatus(t, b1, fsm.Passed)
	id := job(t, b1, "build").ID
	b.do(chromedp.Navigate(at+"/jobs/"+id.String()+"/log"), chromedp.WaitVisible("#lines"))
	want := strings.Count(logText(t, c, id), "\n")
	if got := eval[int](b, `document.querySelectorAll("#lines .chunk p").length`); got != want || want < 99_900 {
		t.Errorf("the page has %d lines, the log %d", got, want)
	}
	b.do(chromedp.SendKeys("#find", "number 98765 of\r"))
	b.until("the line", `document.querySelector(".hit.now")?.textContent.endsWith("this is line number 98765 of the log")`)
	b.until("it to be in view", `(() => { const r = document.querySelector(".hit.now").getBoundingClientRect(); return r.top >= 0 && r.bottom <= innerHeight })()`)
	t.Log("load (ms): " + eval[string](b, `(() => { const n = performance.getEntriesByType("navigation")[0]; return ["responseStart", "responseEnd", "domInteractive", "loadEventEnd"].map((k) => k + "=" + Math.round(n[k])).join(" ") + " kb=" + Math.round(n.transferSize / 1024) })()`))
}
