// Hits as they come, the plot, and keys. Every page can be read without it.

const $ = selector => document.querySelector(selector);
const piece = html => { const t = document.createElement("template"); t.innerHTML = html; return t.content; }; // the server has escaped it

const counts = $("#counts");
if (counts) {
  fetch("/counts?" + counts.dataset.query)
    .then(async answer => {
      if (answer.ok) counts.replaceChildren(piece(await answer.text()));
      else counts.textContent = "The hits over time are not shown: choose a shorter time (since).";
    })
    .catch(() => { counts.textContent = "The hits over time cannot be loaded."; });
}

const table = $("#hits");
const mostRows = 500;

if (table && table.dataset.live !== undefined) {
  const body = table.tBodies[0], live = $("#live");
  const row = id => [...body.rows].find(r => r.dataset.id === id);
  const events = new EventSource("/events?" + table.dataset.live + "&after=" + table.dataset.newest);
  let dropped = 0, missing = false;
  const say = () => {
    live.textContent = (missing ? "More came than is shown here: load the page again. " : "") +
      (dropped ? "Older rows left the page. " : "");
  };
  events.addEventListener("open", () => { live.classList.remove("away"); say(); });
  events.addEventListener("error", () => {
    live.textContent = events.readyState === EventSource.CLOSED ? "New hits do not come any more: load the page again." : "The connection is away: it is tried again.";
  });
  events.addEventListener("hit", e => {
    const fresh = piece(e.data).firstElementChild;
    if (row(fresh.dataset.id)) return; // told again after a reconnect
    $("#none")?.remove();
    fresh.classList.add("fresh");
    body.prepend(fresh);
    while (body.rows.length > mostRows) { body.lastElementChild.remove(); dropped++; }
    say();
  });
  events.addEventListener("change", e => {
    const fresh = piece(e.data).firstElementChild, old = row(fresh.dataset.id);
    if (!old) return;
    fresh.className = old.className;
    const focused = old.contains(document.activeElement);
    old.replaceWith(fresh);
    if (focused) fresh.querySelector("a")?.focus(); // or Enter would open nothing
  });
  events.addEventListener("more", () => { missing = true; say(); });
  events.addEventListener("status", e => { $("#status").replaceChildren(piece(e.data)); });
}

// The lines of a trace, or the rows of hits. A page that is about one line shows it.
const rows = () => table ? [...table.tBodies[0].rows] : [...document.querySelectorAll(".lines .line")];
if (!location.hash) $(".lines .here")?.scrollIntoView({ block: "center" });

addEventListener("keydown", e => {
  if (e.ctrlKey || e.altKey || e.metaKey || e.target.closest("input, button, textarea, select")) return;
  const link = /^\w$/.test(e.key) && $(`[data-key="${e.key}"]`);
  if (link) link.click();
  else if (e.key === "u") location.href = "/";
  if (e.key === "/") {
    const first = $("form input");
    if (first) { first.focus(); e.preventDefault(); }
  }
  if (e.key === "j" || e.key === "k") {
    const all = rows(), at = all.findIndex(r => r.classList.contains("here"));
    const to = all[Math.min(all.length - 1, Math.max(0, at + (e.key === "j" ? 1 : -1)))];
    if (!to) return;
    all[at]?.classList.remove("here");
    to.classList.add("here");
    to.querySelector("a")?.focus(); // Enter opens it
  }
});
