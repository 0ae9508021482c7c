"use strict";
// Puts the page together: words first, then what needs attention, the plots, the rows. A live page does so again and
// again: an element is made anew only when what it shows has changed.

/** Elements by their names. */
class Kept {
  constructor() { this.known = new Map(); }

  /** The element that shows a value; `make` makes it. */
  of(name, value, make) {
    const text = JSON.stringify(value), old = this.known.get(name);
    if (old && old.text === text) return old.shown;
    if (old && old.shown.update) {
      old.text = text;
      old.shown.update(value);
      return old.shown;
    }
    const shown = make(value);
    this.known.set(name, { text, shown });
    return shown;
  }

  /** The element of that name, whatever it shows. */
  always(name, make) { return this.of(name, null, make); }
}

const kept = new Kept();
let view = null; // of the rows

/** Give an element these children. Those that it has already are not touched: what is selected in them, or scrolled, stays. */
function fill(parent, ...children) {
  const wanted = children.filter(Boolean), staying = new Set(wanted);
  for (const child of [...parent.childNodes]) if (!staying.has(child)) child.remove();
  wanted.forEach((child, at) => { if (parent.childNodes[at] !== child) parent.insertBefore(child, parent.childNodes[at] || null); });
  return parent;
}

function summaryOf(run, number, several) {
  const own = (name, value, make) => kept.of(`${name} ${number}`, value, make);
  const facts = fill(kept.always(`facts ${number}`, () => element("details", "")),
    kept.always(`facts' name ${number}`, () => element("summary", "", "About this run")), own("known", run.facts, factsOf));
  return fill(kept.always(`run ${number}`, () => element("section", "run")),
    own("name", run.name, (name) => foreign("p", "name", name)),
    own("headline", run.headline, (words) => foreign(several ? "h2" : "h1", "", `${words}.`)),
    own("sentences", run.sentences, (words) => element("div", "", ...words.map((each) => foreign("p", "lead", each)))),
    run.attention.length ? own("attention", run.attention, attentionOf) : null,
    run.facts.length ? facts : null);
}

function factsOf(facts) {
  const made = element("dl", "");
  for (const [label, text] of facts) made.append(element("dt", "", label), foreign("dd", "", text));
  return made;
}

function attentionOf(all) {
  return element("div", "", element("h3", "", "Needs attention"), element("ul", "attention", ...all.map(oneOf)));
}

function oneOf(each) {
  const made = element("li", "", foreign("b", "", each.title));
  if (each.row) made.append(` first in row ${count(each.row)}`);
  if (each.example) made.append(foreign("blockquote", "", each.example));
  if (each.advice) made.append(" ", element("p", "advice", `→ ${each.advice}`));
  if (each.filter && view) {
    const show = element("button", "", "Show these rows");
    show.type = "button";
    show.onclick = () => { view.choose(each.filter); view.section.scrollIntoView(); };
    made.append(show);
  }
  return made;
}

let tallest = 0;

/** What is in flight. It keeps the height that it had once: what is below it would else move with each call. */
function flyingOf(cells) {
  const made = cellsOf(cells);
  requestAnimationFrame(() => { tallest = Math.max(tallest, made.offsetHeight); made.style.minHeight = `${tallest}px`; });
  return made;
}

function picturesOf(title, { first = [], plots = [], bars = [], cells = [] }) {
  const each = (kind, make) => (value) => kept.of(`${kind} ${title} ${value.name}`, value, make);
  const grid = fill(kept.always(`grid ${title}`, () => element("div", "pictures")),
    ...first.map(each("first", cellsOf)), ...plots.map(each("plot", plotOf)), ...bars.map(each("bars", barsOf)), ...cells.map(each("cells", cellsOf)));
  return fill(kept.always(`section ${title}`, () => element("section", "")), kept.always(`head ${title}`, () => element("h2", "", title)), grid);
}

/** Show a report. */
function present(report) {
  const main = document.getElementById("report"), several = report.runs.length > 1;
  const sections = live ? [kept.always("standing")] : [];
  if (several) {
    sections.push(kept.of("head", report.runs.length, (many) => element("h1", "", `${many} runs compared`)));
    sections.push(picturesOf("Differences", { first: report.compared, plots: report.overlaid }));
  }
  report.runs.forEach((run, number) => {
    sections.push(summaryOf(run, number, several));
    if (live && report.served.flying) sections.push(kept.of("flying", report.served.flying, flyingOf));
    if (!several && run.plots.length + run.bars.length + run.cells.length) sections.push(picturesOf("Pictures", run));
  });
  if (view) sections.push(view.section);
  fill(main, ...sections, kept.of("foot", [report.version, live || report.made_at], () => footOf(report)));
  for (const holder of drawn) if (!holder.chart) redraw(holder);
}

function footOf(report) {
  const made = new Date(report.made_at * 1000).toLocaleString();
  const words = live ? `flatout ${report.version} reads the run file; nothing here changes it.` : `Made by flatout ${report.version}, ${made}. Texts may be cut; the run file has all of them.`;
  return element("footer", "", words);
}

async function build() {
  const main = document.getElementById("report"), report = JSON.parse(document.getElementById("data").textContent);
  if (report.rows) view = new RowsView(new PackedRows(report.rows, await unpacked(report.rows.packed)));
  if (report.served) await begin(report);
  else {
    if (view) await view.show();
    present(report);
  }
  let width = main.clientWidth;
  window.addEventListener("beforeprint", () => { printing = true; drawAll(); });
  window.addEventListener("afterprint", () => { printing = false; drawAll(); });
  darkness.addEventListener("change", drawAll);
  window.addEventListener("resize", () => { if (main.clientWidth !== width) { width = main.clientWidth; drawAll(); } });
  document.documentElement.dataset.ready = "yes";
}

build();
