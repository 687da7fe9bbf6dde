package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

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

	t.Run("log", b.with(func(t *testing.T) { liveLog(t, l, b, r, at) }))
	b.do(chromedp.Click(".top form button"), chromedp.WaitVisible("#token"))
	b.wantNoProblems()
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
