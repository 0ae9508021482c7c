"use strict";
// The table of rows: search, filters, order, pages, and one row opened. The rows come from a source: here the page
// itself, in a live page its server.

const PAGE = 25;
const HEADS = {
  row: "row", id: "id", variant: "asked", state: "state", error: "error", model: "model", seconds: "took",
  provider: "provider", attempts: "tries", input: "tokens in", output: "tokens out", cost: "cost", finish: "ended",
};
const WORDS = { seconds, provider: seconds, cost: dollars, row: count, input: count, output: count };
const NUMBERS = new Set(["row", "seconds", "provider", "attempts", "input", "output", "cost"]);
const TEXTS = ["id", "variant", "state", "error", "model", "finish"];
const FILTERS = { "error:SchemaMismatch": "schema mismatch" };

/** The rows that the page holds. `heads` are the columns, `orders` those that rows can be ordered by. */
class PackedRows {
  constructor(about, columns) {
    this.about = about;
    this.note = about.note;
    this.columns = Object.fromEntries(about.columns.map((name, number) => [name, columns[number]]));
    const telling = (name) => name === "row" || new Set(this.columns[name]).size > 1; // what all rows share tells none apart
    this.heads = about.columns.filter((name) => telling(name) || (about.count === 1 && this.columns[name][0] !== null));
    this.orders = new Set(this.heads);
    this.kept = new Map();
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
    return Object.entries(found);
  }

  /** Some of the rows that are wanted: `most` from the place `begin` on, and how many there are in all. */
  async some({ filter, sought, by, down, begin, most }) {
    const places = await this.found(filter, sought.trim().toLowerCase(), by, down), rows = [];
    for (const at of places.slice(begin, begin + most)) {
      const texts = await this.texts(at);
      const figures = Object.fromEntries(this.heads.map((name) => [name, this.columns[name][at]]));
      rows.push({ key: at, failed: this.columns.state[at] !== "answered", figures, peek: texts.answer || texts.output || texts.message });
    }
    return { total: places.length, rows };
  }

  /** The texts of a row; those beside it come with them. */
  async texts(at) {
    const part = Math.floor(at / this.about.together);
    if (!this.kept.has(part)) this.kept.set(part, unpacked(this.about.texts[part]));
    return (await this.kept.get(part))[at % this.about.together];
  }

  passes(filter, at) {
    const { state, error, finish, attempts } = this.columns;
    switch (filter) {
      case "all": return true;
      case "failed": return state[at] !== "answered";
      case "cut off": return finish[at] === "length";
      case "retried": return attempts[at] > 1;
      default: return `error:${error[at]}` === filter;
    }
  }

  /** Whether a row has the sought words: in its figures, its prompt, its answer. */
  async has(at, sought) {
    if (String(this.columns.row[at]) === sought) return true;
    if (TEXTS.some((name) => this.columns[name][at] && this.columns[name][at].toLowerCase().includes(sought))) return true;
    const texts = await this.texts(at);
    return ["prompt", "answer", "output", "message"].some((name) => texts[name] && texts[name].toLowerCase().includes(sought));
  }

  async found(filter, sought, by, down) {
    const places = [];
    for (let at = 0; at < this.about.count; at++) if (this.passes(filter, at) && (!sought || await this.has(at, sought))) places.push(at);
    const column = this.columns[by], turn = down ? -1 : 1;
    const empty = (value) => value === null || value === undefined;
    return places.sort((one, other) => {
      const a = column[one], b = column[other];
      if (empty(a) || empty(b)) return empty(a) - empty(b) || one - other; // what is unknown comes last
      return (a < b ? -turn : a > b ? turn : one - other);
    });
  }
}

/** The section with the table. */
class RowsView {
  constructor(source) {
    this.source = source;
    this.wanted = { filter: "all", sought: "", by: "row", down: false, begin: 0, most: PAGE };
    this.opened = new Map(); // the texts of opened rows, by the rows' keys
    this.turn = 0;
    this.order = "";
    this.lines = [];
    this.more = false;
    this.search = element("input", "");
    this.search.type = "search";
    this.search.placeholder = "Search prompts, answers, ids …";
    this.search.setAttribute("aria-label", "Search");
    this.choice = element("select", "");
    this.choice.setAttribute("aria-label", "Filter");
    this.status = element("p", "note");
    this.heads = element("tr", "");
    this.body = element("tbody", "");
    this.pages = element("nav", "pages");
    const table = element("table", "rows", element("thead", "", this.heads), this.body);
    this.find = element("div", "find", this.search, this.choice, this.status);
    this.section = element("section", "", element("h2", "", "Rows"), source.note ? element("p", "", source.note) : null,
      this.find, element("div", "wide", table), this.pages);
    this.section.id = "rows";
    let soon = 0;
    this.search.oninput = () => { clearTimeout(soon); soon = setTimeout(() => this.want({ sought: this.search.value }), 150); };
    this.choice.onchange = () => this.want({ filter: this.choice.value });
    this.offer();
  }

  /** Show the filters, and how many rows each finds. */
  offer() {
    const found = this.source.filters();
    if (!found.some(([name]) => name === this.wanted.filter)) found.push([this.wanted.filter, 0]);
    this.choice.replaceChildren(...found.map(([name, many]) => {
      const words = visible(FILTERS[name] || name.replace("error:", "error: "));
      const option = element("option", "", many === null ? words : `${words} (${count(many)})`);
      option.value = name;
      option.selected = name === this.wanted.filter;
      return option;
    }));
  }

  choose(filter) {
    this.choice.value = filter;
    return this.want({ filter });
  }

  /** Show other rows than before. */
  want(changes) {
    this.wanted = { ...this.wanted, begin: 0, ...changes };
    return this.show("Searching …");
  }

  /** Show the rows that are wanted, as they are now. */
  async show(meanwhile) {
    const mine = ++this.turn;
    if (meanwhile) this.status.textContent = meanwhile;
    let found;
    try {
      found = await this.source.some(this.wanted);
    } catch (error) {
      if (mine === this.turn) this.status.textContent = error.message;
      return;
    }
    if (mine !== this.turn) return; // something else is sought by now
    const { total, rows } = found, { begin } = this.wanted;
    this.more = Boolean(found.more); // a search goes on
    if (begin && begin >= total) return void this.want({ begin: Math.floor(Math.max(0, total - 1) / PAGE) * PAGE });
    this.present(rows);
    const many = total ? `${count(begin + 1)}–${count(begin + rows.length)} of ${count(total)}` : "No row is like that.";
    this.status.textContent = this.more ? `${total ? many : "None"} so far; searching …` : many;
    this.pages.replaceChildren(...(total > PAGE ? [this.step("← earlier", begin - PAGE, begin > 0), this.step("later →", begin + PAGE, begin + PAGE < total)] : []));
  }

  /** Put rows into the table. What has not changed stays as it is, and what is open stays open. */
  present(rows) {
    const { by, down } = this.wanted, { heads, orders } = this.source;
    const order = JSON.stringify([heads, by, down, rows.map((row) => row.key)]), same = order === this.order;
    if (!same) {
      this.order = order;
      this.heads.replaceChildren(...heads.map((name) => this.headOf(name, orders.has(name), by === name ? (down ? "descending" : "ascending") : "none")));
      this.body.replaceChildren();
    }
    this.lines = rows.map((row, at) => {
      const text = JSON.stringify(row), old = same ? this.lines[at] : null;
      if (old && old.text === text) return old;
      const line = { text, ...this.lineOf(row) };
      if (old) {
        old.detail.remove();
        old.peek.replaceWith(line.peek);
        old.line.replaceWith(line.line);
        if (this.opened.has(row.key)) this.read(row.key).then(line.unfold);
      } else this.body.append(line.line, line.peek);
      line.unfold();
      return line;
    });
  }

  async read(key) {
    this.opened.set(key, await this.source.texts(key).catch((error) => ({ message: error.message })));
  }

  headOf(name, ordered, sort) {
    const button = element("button", "", HEADS[name]), head = element("th", NUMBERS.has(name) ? "number" : "", ordered ? button : HEADS[name]);
    button.type = "button";
    button.onclick = () => this.want({ by: name, down: this.wanted.by === name ? !this.wanted.down : NUMBERS.has(name) && name !== "row" });
    head.dataset.column = name;
    head.setAttribute("aria-sort", sort);
    return head;
  }

  step(words, begin, possible) {
    const button = element("button", "", words);
    button.type = "button";
    button.disabled = !possible;
    button.onclick = () => this.want({ begin: Math.max(0, begin) });
    return button;
  }

  /** One row of the table, with the beginning of its answer; a click opens it. */
  lineOf(row) {
    const { heads } = this.source, line = element("tr", row.failed ? "failed" : "");
    for (const name of heads) {
      const value = row.figures[name];
      const words = value === null || value === undefined ? "" : WORDS[name] ? WORDS[name](value) : value;
      line.append(element("td", typeof value === "number" ? "number" : "", foreign("div", "cut", words)));
    }
    const opener = element("button", "open", visible((row.peek || "").slice(0, 160)) || "(no text)");
    opener.type = "button";
    opener.dir = "auto";
    const peek = element("tr", "peek", element("td", "", opener));
    peek.firstChild.colSpan = heads.length;
    const detail = element("tr", "opened", element("td", ""));
    detail.firstChild.colSpan = heads.length;
    const unfold = () => {
      const texts = this.opened.get(row.key);
      opener.setAttribute("aria-expanded", String(texts !== undefined));
      if (!texts) return detail.remove();
      detail.firstChild.replaceChildren(openedRow(texts));
      return peek.after(detail);
    };
    opener.onclick = async () => {
      if (!this.opened.delete(row.key)) await this.read(row.key);
      this.lines.find((each) => each.key === row.key)?.unfold(); // another line may have taken this one's place meanwhile
    };
    return { key: row.key, line, peek, detail, unfold };
  }
}

/** A row in full: what was asked and answered, where its time went, what happened on the way. */
function openedRow(texts) {
  const made = element("div", "");
  for (const [name, label] of [["prompt", "Asked"], ["answer", "Answered"], ["output", "As data"], ["message", "Error"]]) {
    if (texts[name]) made.append(element("h4", "", label), foreign("pre", "", texts[name]));
  }
  if (texts.figures) {
    const told = Object.entries(texts.figures).filter(([, value]) => value !== null);
    if (told.length) made.append(element("h4", "", "Its figures"), foreign("p", "", told.map(([name, value]) => `${HEADS[name]} ${WORDS[name] ? WORDS[name](value) : value}`).join(", ")));
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
