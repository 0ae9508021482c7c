"use strict";
// The table of rows: search, filters, order, pages, and one row opened.

const PAGE = 25;
const HEADS = {
  row: "row", id: "id", variant: "asked", state: "state", error: "error", model: "model", seconds: "took",
  provider: "provider", attempts: "tries", input: "tokens in", output: "tokens out", cost: "cost", finish: "ended",
};
const WORDS = { seconds, provider: seconds, cost: dollars, row: count, input: count, output: count };
const TEXTS = ["id", "variant", "state", "error", "model", "finish"];

class Rows {
  constructor(about, columns) {
    this.about = about;
    this.columns = Object.fromEntries(about.columns.map((name, number) => [name, columns[number]]));
    const telling = (name) => name === "row" || new Set(this.columns[name]).size > 1; // what all rows share tells none apart
    this.shown = about.columns.filter((name) => telling(name) || (about.count === 1 && this.columns[name][0] !== null));
    this.kept = new Map();
    this.order = { by: "row", down: false };
    this.page = 0;
    this.filter = "all";
    this.sought = "";
  }

  /** The filters that find something, with how many rows each finds. */
  filters() {
    const { state, error, finish, attempts } = this.columns, found = { all: this.about.count };
    const add = (name) => { found[name] = (found[name] || 0) + 1; };
    for (let at = 0; at < this.about.count; at++) {
      if (state[at] !== "answered") add("failed");
      if (finish[at] === "length") add("cut off");
      if (attempts[at] > 1) add("retried");
      if (error[at]) add(`error:${error[at]}`);
    }
    return found;
  }

  passes(at) {
    const { state, error, finish, attempts } = this.columns;
    switch (this.filter) {
      case "all": return true;
      case "failed": return state[at] !== "answered";
      case "cut off": return finish[at] === "length";
      case "retried": return attempts[at] > 1;
      default: return `error:${error[at]}` === this.filter;
    }
  }

  /** The texts of a row; those beside it come with them. */
  async texts(at) {
    const part = Math.floor(at / this.about.together);
    if (!this.kept.has(part)) this.kept.set(part, unpacked(this.about.texts[part]));
    return (await this.kept.get(part))[at % this.about.together];
  }

  /** Whether a row has the sought words: in its figures, its prompt, its answer. */
  async has(at, sought) {
    if (String(this.columns.row[at]) === sought) return true;
    if (TEXTS.some((name) => this.columns[name][at] && this.columns[name][at].toLowerCase().includes(sought))) return true;
    const texts = await this.texts(at);
    return ["prompt", "answer", "output", "message"].some((name) => texts[name] && texts[name].toLowerCase().includes(sought));
  }

  async found() {
    const places = [], sought = this.sought.trim().toLowerCase();
    for (let at = 0; at < this.about.count; at++) if (this.passes(at) && (!sought || await this.has(at, sought))) places.push(at);
    const column = this.columns[this.order.by], turn = this.order.down ? -1 : 1;
    const empty = (value) => value === null || value === undefined;
    return places.sort((one, other) => {
      const a = column[one], b = column[other];
      if (empty(a) || empty(b)) return empty(a) - empty(b) || one - other; // what is unknown comes last
      return (a < b ? -turn : a > b ? turn : one - other);
    });
  }
}

/** The section with the table. */
function rowsOf(rows) {
  const search = element("input", ""), choose = element("select", ""), status = element("p", "note"), pages = element("nav", "pages");
  const table = element("table", "rows"), heads = element("tr", ""), body = element("tbody", "");
  let turn = 0;
  search.type = "search";
  search.placeholder = "Search prompts, answers, ids …";
  search.setAttribute("aria-label", "Search");
  choose.setAttribute("aria-label", "Filter");
  for (const [name, found] of Object.entries(rows.filters())) {
    const option = element("option", "", `${visible(name.replace("error:", "error: "))} (${count(found)})`);
    option.value = name;
    choose.append(option);
  }
  for (const name of rows.shown) {
    const button = element("button", "", HEADS[name]), head = element("th", rows.columns[name].some((value) => typeof value === "number") ? "number" : "", button);
    button.type = "button";
    button.onclick = () => {
      rows.order = { by: name, down: rows.order.by === name ? !rows.order.down : typeof rows.columns[name].find((value) => value !== null) === "number" && name !== "row" };
      rows.page = 0;
      show();
    };
    head.dataset.column = name;
    heads.append(head);
  }
  table.append(element("thead", "", heads), body);

  async function show() {
    const mine = ++turn;
    status.textContent = "Searching …";
    const places = await rows.found();
    if (mine !== turn) return; // something else is sought by now
    const last = Math.max(0, Math.ceil(places.length / PAGE) - 1);
    rows.page = Math.min(rows.page, last);
    for (const head of heads.children) {
      head.setAttribute("aria-sort", head.dataset.column !== rows.order.by ? "none" : rows.order.down ? "descending" : "ascending");
    }
    const begin = rows.page * PAGE, few = places.slice(begin, begin + PAGE);
    body.replaceChildren(...await Promise.all(few.map((at) => lineOf(rows, at))));
    status.textContent = places.length ? `${count(begin + 1)}–${count(begin + few.length)} of ${count(places.length)}` : "No row is like that.";
    pages.replaceChildren(...(last ? [step("← earlier", -1, rows.page > 0), step("later →", 1, rows.page < last)] : []));
    status.dataset.turn = String(mine);
  }

  function step(words, by, possible) {
    const button = element("button", "", words);
    button.type = "button";
    button.disabled = !possible;
    button.onclick = () => { rows.page += by; show(); };
    return button;
  }

  let soon = 0;
  search.oninput = () => { clearTimeout(soon); soon = setTimeout(() => { rows.sought = search.value; rows.page = 0; show(); }, 150); };
  choose.onchange = () => { rows.filter = choose.value; rows.page = 0; show(); };
  rows.choose = (filter) => { choose.value = filter; choose.onchange(); };
  const shown = show();
  const section = element("section", "", element("h2", "", "Rows"), rows.about.note ? element("p", "", rows.about.note) : null,
    element("div", "find", search, choose, status), element("div", "wide", table), pages);
  section.id = "rows";
  section.ready = shown;
  return section;
}

/** One row of the table, with the beginning of its answer; a click opens it. */
async function lineOf(rows, at) {
  const texts = await rows.texts(at), line = element("tr", rows.columns.state[at] === "answered" ? "" : "failed");
  for (const name of rows.shown) {
    const value = rows.columns[name][at];
    const words = value === null ? "" : WORDS[name] ? WORDS[name](value) : value;
    line.append(element("td", typeof value === "number" ? "number" : "", foreign("div", "cut", words)));
  }
  const opener = element("button", "open", visible((texts.answer || texts.output || texts.message || "").slice(0, 160)) || "(no text)");
  opener.type = "button";
  opener.dir = "auto";
  opener.setAttribute("aria-expanded", "false");
  const both = element("tr", "peek", element("td", "", opener));
  both.firstChild.colSpan = rows.shown.length;
  opener.onclick = () => {
    const opened = both.nextSibling && both.nextSibling.className === "opened";
    opener.setAttribute("aria-expanded", String(!opened));
    if (opened) return both.nextSibling.remove();
    const detail = element("tr", "opened", element("td", "", openedRow(texts)));
    detail.firstChild.colSpan = rows.shown.length;
    both.after(detail);
    return undefined;
  };
  const group = document.createDocumentFragment();
  group.append(line, both);
  return group;
}

/** A row in full: what was asked and answered, where its time went, what happened on the way. */
function openedRow(texts) {
  const made = element("div", "");
  for (const [name, label] of [["prompt", "Asked"], ["answer", "Answered"], ["output", "As data"], ["message", "Error"]]) {
    if (texts[name]) made.append(element("h4", "", label), foreign("pre", "", texts[name]));
  }
  if (texts.waits) {
    const waits = Object.entries(texts.waits).sort((one, other) => other[1] - one[1]).map(([cause, value]) => `${cause.replaceAll("_", " ")} ${seconds(value)}`);
    made.append(element("h4", "", "Its time"), foreign("p", "", waits.join(", ")));
  }
  if (texts.trace) made.append(element("h4", "", "What happened"), traceOf(texts.trace));
  return made;
}

function traceOf(nodes) {
  const list = element("ul", "trace");
  for (const node of nodes) {
    const figures = [seconds(node.seconds), node.outcome, node.target, node.output_tokens ? `${count(node.output_tokens)} tokens out` : "", dollars(node.cost)].filter(Boolean).join(" · ");
    const item = element("li", "", foreign("b", "", `${node.kind} ${node.kind === "wait" ? node.name.replaceAll("_", " ") : node.name || ""}`), " ", foreign("span", "note", figures));
    if (node.detail) item.append(foreign("div", "", node.detail));
    if (node.children && node.children.length) item.append(traceOf(node.children));
    list.append(item);
  }
  return list;
}
