"use strict";
// A live page: the server sends the report again whenever it says something new, and answers questions about rows.

/** The rows of the run file, a page at a time. */
class ServedRows {
  constructor() {
    this.heads = ["row", "state", "seconds", "provider", "attempts"];
    this.orders = new Set(["row", "seconds", "provider", "attempts", "cost"]);
    this.known = [];
  }

  filters() { return this.known; }

  async some({ filter, sought, column, by, down, begin, most }) {
    const found = await ask("rows", { filter, sought, column: column || "", by, down: down ? "1" : "0", begin, most });
    const told = new Set(found.rows.flatMap((row) => Object.keys(row.figures).filter((name) => row.figures[name] !== null)));
    const all = ["row", "id", "state", "error", "seconds", "provider", "attempts", "cost", "finish"];
    this.heads = all.filter((name) => told.has(name) || this.heads.includes(name)); // a column that was shown stays
    return found;
  }

  texts(index) { return ask("row", { index }); }
}

async function ask(path, given) {
  const answer = await fetch(`${path}?${new URLSearchParams(given)}`, { cache: "no-store" });
  if (answer.ok) return answer.json();
  throw new Error((await answer.text()).trim());
}

/** Where the page stands: the progress, and whether what it shows is what happens now. */
class Standing {
  constructor() {
    this.dot = element("span", "dot");
    this.words = element("span", "");
    this.trouble = element("span", "trouble");
    this.bar = element("progress", "");
    this.bar.max = 1;
    this.bar.setAttribute("aria-label", "rows finished");
    this.shown = element("header", "standing", element("p", "note", this.dot, this.words, this.trouble), this.bar);
    this.shown.setAttribute("role", "status");
  }

  tell(state, words) {
    this.dot.className = `dot ${state}`;
    this.words.textContent = words;
  }

  show({ done, trouble }) {
    this.trouble.textContent = trouble ? ` · ${visible(trouble)}` : "";
    this.bar.hidden = done === null;
    if (done !== null) this.bar.value = done;
  }
}

const standing = new Standing();
const STATES = { running: "running", waiting: "waiting for the run", finished: "finished", interrupted: "interrupted", cancelled: "cancelled", "broken off": "broken off: its process has gone" };
let source = null, latest = null, again = 0;

function connect() {
  clearTimeout(again);
  if (source) source.close();
  source = new EventSource("events");
  source.onmessage = (event) => update(JSON.parse(event.data));
  source.onopen = () => tellState();
  source.onerror = () => {
    standing.tell("lost", `no connection: flatout watch has ended, or is not reached. This is what was known at ${new Date(heard).toLocaleTimeString()}.`);
    if (source.readyState === EventSource.CLOSED) again = setTimeout(connect, 3000); // else the browser tries again itself
  };
}

let heard = Date.now();

function tellState() {
  const { state } = latest.runs[0];
  standing.tell(state.replace(" ", "-"), `${state === "running" ? "live" : STATES[state] || state}`);
}

/** Show what is new. What was zoomed, opened, sought or filtered stays. */
function update(report) {
  latest = report;
  heard = Date.now();
  standing.show(report.served);
  tellState();
  document.title = titleOf(report);
  if (report.served.rows && !view) {
    view = new RowsView(new ServedRows());
    view.find.insertBefore(columnOf(view), view.status);
  }
  if (view) {
    view.source.known = report.served.filters;
    view.offer();
    look();
  }
  present(report);
}

function titleOf({ title, served }) {
  const done = served.done === null ? "" : `${Math.floor(100 * served.done)} % · `;
  return `${done}${visible(title)} – flatout watch`;
}

/** Rows by the value of a column of the input, or of a field of the answer. */
function columnOf(rows) {
  const made = element("input", "");
  made.placeholder = "column=value";
  made.setAttribute("aria-label", "Value of a column");
  made.onchange = () => rows.want({ column: made.value });
  return made;
}

let looking = null, news = false;

/** Ask for the rows again, one question at a time; while a search goes on, at once. */
function look() {
  if (looking) news = true; // it may have come while its predecessor is asked about
  else looking = view.show().then(looked);
}

function looked() {
  const again = news;
  looking = null;
  news = false;
  if (again) look();
  else if (view.more) setTimeout(look, 50);
}

/** Show the page for the first time, and then what is new. Done when its first rows are there. */
async function begin(report) {
  live = true;
  kept.always("standing", () => standing.shown);
  update(report);
  const first = looking;
  connect();
  document.addEventListener("visibilitychange", () => { // a page that nobody sees costs nothing
    if (document.hidden) { source.close(); clearTimeout(again); } else connect();
  });
  await first;
}
