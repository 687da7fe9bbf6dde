package pipeline

import (
	"strings"

	"gopkg.in/yaml.v3"
)

// caches reads what is kept from one build to the next.
func (r *reader) caches(n *yaml.Node) []Cache {
	items, _ := r.items(n, "cache")
	if len(items) > maxCaches {
		r.errorf(items[maxCaches], "cache: more than %d", maxCaches)
		return nil
	}
	var all []Cache
	for _, item := range items {
		all = append(all, r.cache(item))
	}
	return all
}

func (r *reader) cache(n *yaml.Node) Cache {
	var c Cache
	all, ok := r.fields(n, "cache", inCache)
	if !ok {
		return c
	}
	r.wanted(n, "a cache", all, inCache)
	for _, e := range all {
		switch e.key {
		case "key":
			r.in(withChecksums(r.scope), func() { c.Key, _ = r.line(e.value, "cache.key", maxCacheKey) })
		case "restore_keys":
			r.in(withChecksums(r.scope), func() {
				c.RestoreKeys = textsOf(r.some(e.value, "cache.restore_keys", maxCacheKey, maxPaths))
			})
		case "paths":
			c.Paths = r.pathsAt("cache.paths", e.value, isCachePath, "a path in the workspace, or one that begins with / or ~/, without ..")
		case "policy":
			if s, ok := r.word(e.value, "cache.policy", []string{policyPullPush, string(CachePull), string(CachePush)}); ok && s != policyPullPush {
				c.Policy = CachePolicy(s)
			}
		}
	}
	return c
}

func withChecksums(sc *scope) *scope {
	with := *sc
	with.checksums = true
	return &with
}

// isCachePath: what is cached may lie outside of the workspace, in the job's own
// container.
func isCachePath(path string) bool {
	path = strings.TrimPrefix(path, "~/")
	return isInside(strings.TrimPrefix(path, "/"))
}

// pathsAt reads one path or several.
func (r *reader) pathsAt(what string, n *yaml.Node, fits func(string) bool, expected string) []string {
	var all []string
	for _, p := range r.some(n, what, maxPathLen, maxPaths) {
		if !fits(p.text) {
			r.errorf(p.at, "%s: %s: expected %s", what, quote(p.text), expected)
			continue
		}
		all = append(all, p.text)
	}
	return all
}

// artifacts reads what a job leaves.
func (r *reader) artifacts(n *yaml.Node) *Artifacts {
	const inside = "a path or glob in the workspace, without .. or a / before it"
	to := &Artifacts{}
	all, ok := r.fields(n, "artifacts", inArtifacts)
	if ok && !has(all, "paths") && !has(all, "reports") {
		r.errorf(n, `artifacts: "paths" are missing: which files are kept?`)
	}
	for _, e := range all {
		switch e.key {
		case "paths":
			to.Paths = r.pathsAt("artifacts.paths", e.value, isInside, inside)
		case "exclude":
			to.Exclude = r.pathsAt("artifacts.exclude", e.value, isInside, inside)
		case "when":
			if s, ok := r.word(e.value, "artifacts.when", []string{statusSuccess, string(OnFailure), string(Always)}); ok && s != statusSuccess {
				to.When = RunOn(s)
			}
		case "expire_in":
			setParsed(r, &to.ExpireIn, e, "artifacts.expire_in", "a time", timeUpTo(maxExpire))
		case "reports":
			reports, _ := r.fields(e.value, "artifacts.reports", inReports)
			for _, e := range reports {
				to.JUnit = r.pathsAt("artifacts.reports.junit", e.value, isInside, inside)
			}
		}
	}
	return to
}

// wanted notes the keys that a place can't do without.
func (r *reader) wanted(n *yaml.Node, what string, all []entry, in *place) {
	for _, key := range in.must {
		if !has(all, key) {
			r.errorf(n, "%s needs %q", what, key)
		}
	}
}
