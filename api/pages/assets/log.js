// The page of a job's log: lines as they come, search, and the end in view.

const lines = document.getElementById("lines");
const find = document.getElementById("find");
const found = document.getElementById("found");
const follow = document.getElementById("follow");
const link = document.getElementById("link");
const names = lines.dataset.steps.split("\n");
const chunkLines = 500; // as in logpage.go
const maxLines = 200_000; // more than that, and a page is no place for it

let count = Number(lines.dataset.lines);
let attempt = Number(lines.dataset.attempt);
let group = lines.querySelector(":scope > details:last-of-type");
while (group && !group.querySelector("p")) group = group.previousElementSibling; // steps that are still to come
let chunk = group?.querySelector(":scope > .chunk:last-of-type") ?? null;
let room = chunk ? chunkLines - chunk.childElementCount : 0;
let seen = Math.max(-1, ...[...lines.querySelectorAll("details")].filter((d) => d.querySelector("p")).map((d) => Number(d.dataset.step)));

function newGroup(step) {
  const existing = document.getElementById(`step-${step}`);
  if (existing && !existing.querySelector("p")) {
    group = existing;
    group.open = true;
  } else {
    group = document.createElement("details");
    group.open = true;
    group.dataset.step = step;
    const summary = document.createElement("summary");
    const name = document.createElement("b");
    name.textContent = step < 0 ? "Preparing" : (names[step] ?? `Step ${step + 1}`);
    const sum = document.createElement("span");
    sum.className = "sum";
    if (step >= 0 && !existing) {
      group.id = `step-${step}`;
      sum.dataset.of = `step-${step}-sum`;
    }
    summary.append(name, sum);
    group.append(summary);
    lines.append(group);
  }
  chunk?.classList.remove("last");
  chunk = null;
  room = 0;
  if (step > seen) {
    seen = step;
    refresh();
  }
}

function add(line) {
  if (!group || (line.step >= 0 && line.step !== Number(group.dataset.step))) newGroup(line.step);
  if (room === 0) {
    chunk?.classList.remove("last");
    chunk = document.createElement("div");
    chunk.className = "chunk last";
    group.append(chunk);
    room = chunkLines;
  }
  room--;
  count++;
  const p = document.createElement("p");
  p.id = `L${count}`;
  if (line.step < 0) p.className = "own";
  // The server made this HTML of the line: text, and spans with classes.
  p.innerHTML = `<a href="#L${count}">${count}</a>${line.html ?? ""}`;
  chunk.append(p);
  if (find.value) mark(p, find.value.toLowerCase());
}

// What comes in quick succession is laid out together.
let waiting = [];
let due = false;
function flush() {
  due = false;
  const batch = waiting;
  waiting = [];
  for (const line of batch) add(line);
  if (find.value) tell();
  if (follow.checked) toEnd();
}
function later() {
  if (due) return;
  due = true;
  if (document.hidden) setTimeout(flush, 50); // a page that nobody sees draws no frames
  else requestAnimationFrame(flush);
}

// The last line is asked for by itself: how high the chunks before it are is an estimate
// until they have been seen.
function toEnd() {
  const last = chunk?.lastElementChild;
  if (!last) return;
  group.open = true;
  last.scrollIntoView({ block: "end" });
}

// The words on the attempt and its steps are the server's, and so are their shapes.
let asking = false;
let again = false;
async function refresh() {
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  do {
    again = false;
    try {
      const url = new URL(lines.dataset.heads, location);
      url.searchParams.set("seen", seen);
      const response = await fetch(url);
      if (response.ok) show(await response.text());
    } catch {
      // No answer: the stream tells when the node is back, and asks again.
    }
  } while (again);
  asking = false;
}

function show(html) {
  const heads = document.getElementById("heads");
  heads.innerHTML = html;
  for (const sum of lines.querySelectorAll(".sum[data-of]")) {
    const from = document.getElementById(sum.dataset.of);
    if (from) sum.innerHTML = from.innerHTML;
  }
  const jump = document.getElementById("failure");
  for (const g of lines.querySelectorAll("details[id]")) {
    const last = [...g.querySelectorAll(":scope > .chunk > p:not(.own)")].at(-1);
    if (last && g.querySelector(".sum .failed, .sum .errored")) {
      jump.href = `#${last.id}`;
      jump.hidden = false;
      break;
    }
  }
}

// The stream. A connection that breaks is opened again by the browser, with the ID of
// the last event that it has seen; where the browser gives up, we do it.
let place = "";
let ended = false;
function connect() {
  const url = new URL(lines.dataset.stream, location);
  if (place) {
    const [n, offset] = place.split("/");
    url.searchParams.set("offset", offset);
    url.searchParams.set("attempt", n);
  }
  const source = new EventSource(url);
  source.onopen = () => {
    link.textContent = "live";
    refresh();
  };
  source.onerror = () => {
    if (ended) return;
    link.textContent = "connecting again…";
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 1000);
  };
  source.addEventListener("line", (event) => {
    const line = JSON.parse(event.data);
    place = event.lastEventId;
    if (attempt !== line.attempt) {
      if (attempt !== 0) {
        source.close();
        location.reload(); // the job is tried again
        return;
      }
      attempt = line.attempt;
    }
    if (count + waiting.length >= maxLines) {
      source.close();
      ended = true;
      link.textContent = `stopped at ${maxLines} lines: download the rest`;
      return;
    }
    waiting.push(line);
    later();
  });
  source.addEventListener("status", refresh);
  source.addEventListener("problem", (event) => {
    link.textContent = JSON.parse(event.data).detail;
  });
  source.addEventListener("end", () => {
    ended = true;
    source.close();
    flush();
    link.textContent = "";
    document.getElementById("following").hidden = true;
    lines.dataset.ended = "";
    refresh();
  });
}

// Search. Lines that match are marked, and Enter goes from one to the next.
let now = null;
function mark(p, text) {
  const hit = text !== "" && p.textContent.toLowerCase().includes(text, p.firstChild.textContent.length);
  if (hit !== p.classList.contains("hit")) p.classList.toggle("hit", hit);
}
function tell() {
  const hits = lines.getElementsByClassName("hit");
  if (!find.value) found.textContent = "";
  else if (!now) found.textContent = `${hits.length} lines`;
  else found.textContent = `${[...hits].indexOf(now) + 1} of ${hits.length}`;
}
function search() {
  const text = find.value.toLowerCase();
  now?.classList.remove("now");
  now = null;
  for (const p of lines.getElementsByTagName("p")) if (p.id) mark(p, text);
  tell();
}
function go(step) {
  const hits = [...lines.getElementsByClassName("hit")];
  if (hits.length === 0) return;
  const at = now ? hits.indexOf(now) : step > 0 ? -1 : 0;
  now?.classList.remove("now");
  now = hits[(at + step + hits.length) % hits.length];
  now.classList.add("now");
  follow.checked = false;
  now.closest("details").open = true;
  now.scrollIntoView({ block: "center" });
  tell();
}
let typed = 0;
find.addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(search, 120);
});
find.addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    clearTimeout(typed);
    if (!now) search();
    go(event.shiftKey ? -1 : 1);
  } else if (event.key === "Escape") {
    find.value = "";
    search();
    find.blur();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  event.preventDefault();
  find.focus();
});
find.hidden = false;

// Who goes up wants to read, and not to be taken to the end with each line.
addEventListener("wheel", (event) => { if (event.deltaY < 0) follow.checked = false; }, { passive: true });
addEventListener("touchmove", () => { follow.checked = false; }, { passive: true });
addEventListener("keydown", (event) => { if (["ArrowUp", "PageUp", "Home"].includes(event.key)) follow.checked = false; });
addEventListener("hashchange", () => { follow.checked = false; });
follow.addEventListener("change", () => { if (follow.checked) toEnd(); });

if (lines.dataset.stream) {
  document.getElementById("following").hidden = false;
  follow.checked = location.hash === "";
  if (follow.checked) toEnd();
  connect();
}
