// Keeps a page as the server has it now. On a sign the page is loaded again, and what is
// marked data-live takes the place of what was there: all words and shapes are the server's.

let asking = false;
let again = false;

export async function refresh() {
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  do {
    again = false;
    try {
      const response = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (response.ok) replace(new DOMParser().parseFromString(await response.text(), "text/html"));
    } catch {
      // No answer: when the stream is open again, it asks again.
    }
    if (again) await new Promise((done) => setTimeout(done, 100)); // many signs make few pages
  } while (again);
  asking = false;
}

// path names an element within a part, so that the focus stays where it was.
function path(part, el) {
  const way = [];
  for (; el && el !== part; el = el.parentElement) way.unshift([...el.parentElement.children].indexOf(el));
  return way;
}

function replace(fresh) {
  for (const part of document.querySelectorAll("[data-live][id]")) {
    const next = fresh.getElementById(part.id);
    if (!next || next.innerHTML === part.innerHTML) continue;
    const focus = part.contains(document.activeElement) ? document.activeElement : null;
    const href = focus?.getAttribute("href");
    const way = focus ? path(part, focus) : [];
    const open = [...part.querySelectorAll("details[open]")].map((d) => d.textContent);
    const left = part.firstElementChild?.scrollLeft ?? 0;
    part.innerHTML = next.innerHTML;
    if (part.firstElementChild) part.firstElementChild.scrollLeft = left;
    for (const d of part.querySelectorAll("details")) if (open.includes(d.textContent)) d.open = true;
    if (focus) {
      const same = href ? part.querySelector(`[href="${CSS.escape(href)}"]`) : null;
      (same ?? way.reduce((el, i) => el?.children[i], part))?.focus({ preventScroll: true });
    }
  }
  document.dispatchEvent(new Event("narwhal:fresh"));
}

// follow refreshes with each of a stream's events, until the event "end".
export function follow(url) {
  const source = new EventSource(url);
  source.onopen = refresh;
  source.addEventListener("build", refresh);
  source.addEventListener("end", () => {
    source.close();
    refresh();
  });
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(() => follow(url), 1000);
  };
}
