package fsm

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/codepr/narwhal/pipeline"
)

// commandMore is command for what came with the whole of the format.
func (w *world) commandMore(f []string, arg func(int) string, opt lineOptions) Command {
	switch f[0] {
	case "approve", "reject": // approve JOB [step=NAME] [n=ATTEMPT]
		if step, ok := opt["step"]; ok {
			n, err := strconv.Atoi(cmp.Or(opt["n"], "0"))
			w.check(err)
			return Command{DecideStep: &DecideStep{Job: w.job(arg(1)), Step: step, N: n, Approve: f[0] == "approve", By: "somebody"}}
		}
		return Command{DecideJob: &DecideJob{Job: w.job(arg(1)), Approve: f[0] == "approve", By: "somebody"}}
	case "move": // move JOB [n=N] [token=I]
		return Command{MoveAttempt: &MoveAttempt{Ref: w.ref(arg(1), opt)}}
	case "expire": // expire JOB [n=N] [token=I]
		return Command{ExpireAttempt: &ExpireAttempt{Ref: w.ref(arg(1), opt), Message: "its time was up"}}
	case "fire": // fire REPO BRANCH EXPR DUE: the clock shows 2026-01-02 at DUE
		due, err := time.Parse("2006-01-02 15:04:05", "2026-01-02 "+arg(4))
		w.check(err)
		return Command{FireSchedule: &FireSchedule{Repo: arg(1), Branch: arg(2), Spec: cron(arg(3), arg(2)), Due: due}}
	case "unschedule": // unschedule REPO BRANCH [pending]
		return Command{DropSchedules: &DropSchedules{Repo: arg(1), Branch: arg(2), By: "somebody"}}
	case "see": // see REPO [url=U] [done=1] [pending=1] +REF=SHA new, REF=WAS/SHA moved, -REF=WAS gone; REF is a branch or tags/T
		c := &SeeHeads{Repo: arg(1), CloneURL: opt.get("url", "git://"+arg(1)), Done: opt["done"] != ""}
		for _, word := range f[2:] {
			if name, value, ok := strings.Cut(word, "="); ok && !slices.Contains([]string{"url", "done", "pending"}, name) {
				c.Heads = append(c.Heads, seen(name, value))
			}
		}
		return Command{SeeHeads: c}
	case "secret": // secret REPO NAME VALUE; "-" is for all repositories
		return Command{SetSecret: &SetSecret{Secret: Secret{Repo: repo(arg(1)), Name: arg(2), Sealed: []byte(arg(3)), By: "somebody"}}}
	case "forget": // forget REPO NAME: of a secret
		return Command{RemoveSecret: &RemoveSecret{Repo: repo(arg(1)), Name: arg(2), By: "somebody"}}
	case "save": // save REPO SCOPE KEY DIGEST
		return Command{SaveCache: &SaveCache{Entry: CacheEntry{Repo: arg(1), Scope: arg(2), Key: arg(3), Blob: Blob{Digest: arg(4), Size: 1}}}}
	case "use": // use REPO SCOPE KEY
		return Command{UseCache: &UseCache{Repo: arg(1), Scope: arg(2), Key: arg(3)}}
	case "drop": // drop REPO SCOPE KEY DIGEST
		return Command{DropCache: &DropCache{Repo: arg(1), Scope: arg(2), Key: arg(3), Digest: arg(4)}}
	case "rehome": // rehome log JOB N DIGEST HOLDER,… | rehome cache REPO SCOPE KEY DIGEST HOLDER,…
		ref, rest := BlobRef{Kind: BlobKind(arg(1))}, f[len(f)-2:]
		if ref.Kind == BlobCache {
			ref.Repo, ref.Scope, ref.Key = arg(2), arg(3), arg(4)
		} else {
			n, err := strconv.Atoi(arg(3))
			w.check(err)
			ref.Job, ref.N = w.job(arg(2)), n
		}
		return Command{RehomeBlob: &RehomeBlob{Ref: ref, Digest: rest[0], Holders: holders(rest[1])}}
	case "seal": // seal JOB BYTES DIGEST HOLDER,… [n=N] [token=I]
		bytes, err := strconv.ParseInt(arg(2), 10, 64)
		w.check(err)
		return Command{SealLog: &SealLog{Ref: w.ref(arg(1), opt), Bytes: bytes, Log: Blob{Digest: arg(3), Size: 1, Holders: holders(arg(4))}}}
	}
	w.t.Fatalf("unknown line %q", strings.Join(f, " "))
	return Command{}
}

func seen(name, value string) SeenHead {
	ref := "refs/heads/" + strings.TrimLeft(name, "+-")
	if tag, ok := strings.CutPrefix(strings.TrimLeft(name, "+-"), "tags/"); ok {
		ref = "refs/tags/" + tag
	}
	was, sha, _ := strings.Cut(value, "/")
	if name[0] == '+' {
		was, sha = "", value
	}
	return SeenHead{Ref: ref, Was: was, SHA: sha}
}

// metaStore is meta for questions about what is kept beside builds.
func (w *world) metaStore(f []string) (func() string, bool) {
	switch f[0] {
	case "secret?": // secret? REPO NAME
		return func() string {
			s, ok := w.state.Secret(f[1], f[2])
			if !ok {
				return "none\n"
			}
			return fmt.Sprintf("%s of %q: %s\n", s.Name, s.Repo, s.Sealed)
		}, true
	case "cache?": // cache? REPO SCOPE,… KEY [PREFIX,…]
		return func() string {
			var prefixes []string
			if len(f) > 4 {
				prefixes = strings.Split(f[4], ",")
			}
			e, ok := w.state.Cache(f[1], strings.Split(f[2], ","), f[3], prefixes)
			if !ok {
				return "none\n"
			}
			return fmt.Sprintf("%s %s: %s\n", e.Scope, e.Key, e.Blob.Digest)
		}, true
	case "logs": // logs JOB: of its attempts
		return func() string {
			j, ok := w.state.Job(w.job(f[1]))
			if !ok {
				return "none\n"
			}
			var b strings.Builder
			for _, a := range j.Attempts {
				if a.Log == nil {
					fmt.Fprintf(&b, "attempt %d: not sealed\n", a.N)
					continue
				}
				fmt.Fprintf(&b, "attempt %d: %d bytes, %s at %v\n", a.N, a.LogBytes, a.Log.Digest, a.Log.Holders)
			}
			return b.String()
		}, true
	case "blobs":
		return func() string {
			var b strings.Builder
			for ref, blob := range w.state.Blobs() {
				fmt.Fprintf(&b, "%s %s#%d %s%s%s: %s at %v\n", ref.Kind, ref.Job, ref.N, ref.Repo, ref.Scope, ref.Key, blob.Digest, blob.Holders)
			}
			return b.String()
		}, true
	case "heads":
		return func() string {
			var b strings.Builder
			for r := range w.state.Remotes() {
				fmt.Fprintf(&b, "%s at %s, pushed %s, looked at: %v\n", r.Repo, r.CloneURL, r.PushedAt.Format(time.TimeOnly), r.Looked)
				for h := range w.state.Heads(r.Repo) {
					fmt.Fprintf(&b, "  %s %s\n", h.Ref, h.SHA)
				}
			}
			return b.String()
		}, true
	case "schedules":
		return func() string {
			var b strings.Builder
			for s := range w.state.Schedules() {
				fmt.Fprintf(&b, "%s %s %s: %s of build %d, last %s\n", s.Repo, s.Branch, s.Spec.Cron, s.Commit.SHA, s.Build, s.Last.Format(time.TimeOnly))
			}
			return b.String()
		}, true
	case "build?": // build? ID
		return func() string {
			id, err := strconv.ParseUint(f[1], 10, 64)
			w.check(err)
			b, ok := w.state.Build(BuildID(id))
			if !ok {
				return "none\n"
			}
			text := ""
			if b.Commit.Message+b.Commit.Author != "" {
				text = fmt.Sprintf(" %q by %s", b.Commit.Message, b.Commit.Author)
			}
			return fmt.Sprintf("build %d: %s %s %s inputs %v%s\n", b.ID, b.Commit.Event, b.Commit.SHA, b.Commit.Ref, b.Inputs, text)
		}, true
	case "timeline": // timeline BUILD
		return func() string { return w.timeline(f[1]) }, true
	case "audit":
		return func() string {
			var b strings.Builder
			for d := range w.state.Deeds(0) {
				fmt.Fprintf(&b, "%d. %d/%d %s %s by %s: %s %s", d.Seq, d.Term, d.Index, d.At.Format(time.TimeOnly), d.Did, d.By, d.On, d.Repo)
				if d.Build != 0 {
					fmt.Fprintf(&b, " build %d", d.Build)
				}
				b.WriteString("\n")
			}
			return b.String()
		}, true
	case "elect": // another leader: entries are of the next term from here on
		return func() string { w.term++; return "" }, true
	case "overtaken": // overtaken REPO BRANCH [SHA]
		return func() string {
			return fmt.Sprintf("%s: %v\n", strings.Join(f, " "), w.state.Overtaken(f[1], f[2], strings.Join(f[3:], "")))
		}, true
	case "slots": // slots GROUP
		return func() string {
			taken := w.state.Slots(f[1])
			return fmt.Sprintf("%v hold group %s\n", taken.Holders, f[1])
		}, true
	}
	return nil, false
}

// trait reads what a job is beside its name and needs.
func trait(j *pipeline.Job, text string) {
	name, value, _ := strings.Cut(text, "=")
	parts := strings.Split(value, "/")
	switch name {
	case "":
	case "skip":
		j.Skip = "its when asks for " + value
	case "manual":
		j.When.Manual = true
	case "steps": // steps=NAME/…; a ? behind a name asks a person, a - leaves it out too
		for _, p := range parts {
			s := pipeline.Step{Name: strings.TrimRight(p, "?-"), When: pipeline.When{Manual: strings.Contains(p, "?")}}
			if strings.HasSuffix(p, "-") {
				s.Skip = "left out"
			}
			j.Steps = append(j.Steps, s)
		}
	case "on_failure", "always":
		j.When.On = pipeline.RunOn(name)
	case "allow": // allow=failure is what plans of older versions say
		j.AllowFailure, j.AllowErrors = true, value == ""
	case "group": // group=NAME/LIMIT[/cancel][/build]
		j.Concurrency = &pipeline.Concurrency{Group: parts[0]}
		_, _ = fmt.Sscan(parts[1], &j.Concurrency.Limit)
		for _, p := range parts[2:] {
			j.Concurrency.CancelInProgress = j.Concurrency.CancelInProgress || p == "cancel"
			j.Concurrency.PerBuild = j.Concurrency.PerBuild || p == "build"
		}
	case "retry": // retry=MAX[/CLASS+…][/EXIT+…][/BACKOFF]
		j.Retry = retryOf(parts)
	default:
		panic("unknown trait " + text)
	}
}

func retryOf(parts []string) *pipeline.Retry {
	r := &pipeline.Retry{}
	_, _ = fmt.Sscan(parts[0], &r.Max)
	if len(parts) > 1 && parts[1] != "" {
		for _, c := range strings.Split(parts[1], "+") {
			r.When = append(r.When, pipeline.Class(c))
		}
	}
	if len(parts) > 2 && parts[2] != "" {
		for _, c := range strings.Split(parts[2], "+") {
			code, _ := strconv.Atoi(c)
			r.ExitCodes = append(r.ExitCodes, code)
		}
	}
	if len(parts) > 3 {
		r.Backoff, _ = time.ParseDuration(parts[3])
	}
	return r
}

func holders(text string) (list []NodeID) {
	for _, id := range strings.Split(text, ",") {
		list = append(list, NodeID(id))
	}
	return list
}

func crons(text string) []pipeline.Schedule {
	var out []pipeline.Schedule
	for _, word := range strings.Split(text, ",") {
		expr, branch, found := strings.Cut(word, "@")
		if !found {
			branch = "main"
		}
		if expr != "" {
			out = append(out, cron(expr, branch))
		}
	}
	return out
}

func cron(expr, branch string) pipeline.Schedule {
	return pipeline.Schedule{Cron: expr, Timezone: "UTC", Branch: branch, Inputs: map[string]string{"by": expr}}
}

func inputs(text string) map[string]string {
	k, v, ok := strings.Cut(text, ":")
	if !ok {
		return nil
	}
	return map[string]string{k: v}
}

func tests(w *world, text string) *TestReport {
	if text == "" {
		return nil
	}
	r := &TestReport{}
	_, err := fmt.Sscanf(text, "%d/%d/%d", &r.Passed, &r.Failed, &r.Skipped)
	w.check(err)
	return r
}

func repo(text string) string {
	if text == "-" {
		return ""
	}
	return text
}

// drain makes a drain's command; within is empty where it has no deadline.
func (w *world) drain(id NodeID, on bool, within string) Command {
	c := DrainNode{Node: id, Drain: on, By: "somebody"}
	if within != "" {
		d, err := time.ParseDuration(within)
		w.check(err)
		c.Until = w.at.Add(d)
	}
	return Command{DrainNode: &c}
}
