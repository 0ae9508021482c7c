"use strict";
// Puts the page together: words first, then what needs attention, the plots, the rows.

const report = JSON.parse(document.getElementById("data").textContent);

function summaryOf(run, several) {
  const made = element("section", "run", foreign("p", "name", run.name), foreign(several ? "h2" : "h1", "", `${run.headline}.`));
  for (const sentence of run.sentences) made.append(foreign("p", "lead", sentence));
  if (run.attention.length) {
    const list = element("ul", "attention");
    for (const each of run.attention) list.append(attentionOf(each));
    made.append(element("h3", "", "Needs attention"), list);
  }
  const facts = element("dl", "");
  for (const [label, text] of run.facts) facts.append(element("dt", "", label), foreign("dd", "", text));
  made.append(element("details", "", element("summary", "", "About this run"), facts));
  return made;
}

function attentionOf(each) {
  const made = element("li", "", foreign("b", "", each.title));
  if (each.row) made.append(` first in row ${count(each.row)}`);
  if (each.example) made.append(foreign("blockquote", "", each.example));
  if (each.advice) made.append(" ", element("p", "advice", `→ ${each.advice}`));
  if (each.filter && report.rows) {
    const show = element("button", "", "Show these rows");
    show.type = "button";
    show.onclick = () => { table.choose(each.filter); document.getElementById("rows").scrollIntoView(); };
    made.append(show);
  }
  return made;
}

function picturesOf(title, { first = [], plots = [], bars = [], cells = [] }) {
  const grid = element("div", "pictures", ...first.map(cellsOf), ...plots.map(plotOf), ...bars.map(barsOf), ...cells.map(cellsOf));
  return element("section", "", element("h2", "", title), grid);
}

let table = null;

async function build() {
  const main = document.getElementById("report"), several = report.runs.length > 1;
  if (several) {
    main.append(element("h1", "", `${report.runs.length} runs compared`));
    main.append(picturesOf("Differences", { first: report.compared, plots: report.overlaid }));
  }
  for (const run of report.runs) {
    main.append(summaryOf(run, several));
    if (!several) main.append(picturesOf("Pictures", run));
  }
  if (report.rows) {
    table = new Rows(report.rows, await unpacked(report.rows.packed));
    main.append(rowsOf(table));
    await document.getElementById("rows").ready;
  }
  const made = new Date(report.made_at * 1000).toLocaleString();
  main.append(element("footer", "", `Made by flatout ${report.version}, ${made}. Texts may be cut; the run file has all of them.`));
  drawAll();
  let width = main.clientWidth;
  window.addEventListener("beforeprint", () => { printing = true; drawAll(); });
  window.addEventListener("afterprint", () => { printing = false; drawAll(); });
  darkness.addEventListener("change", drawAll);
  window.addEventListener("resize", () => { if (main.clientWidth !== width) { width = main.clientWidth; drawAll(); } });
  document.documentElement.dataset.ready = "yes";
}

build();
