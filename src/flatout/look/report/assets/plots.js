"use strict";
// Plots by uPlot, bars, and small tables.

/** Colours that people of all kinds of sight tell apart (Okabe and Ito), for light and for dark. */
const COLOURS = {
  light: ["#0072b2", "#d55e00", "#009e73", "#aa4499", "#b8860b", "#56b4e9", "#555555", "#000000"],
  dark: ["#56b4e9", "#e69f00", "#2bc59b", "#e28fc0", "#f0e442", "#7fa8ff", "#bbbbbb", "#ffffff"],
};
const SHADES = {
  light: { text: "#555", grid: "#0001", band: "#7f7f7f33", mark: "#aa4499" },
  dark: { text: "#aaa", grid: "#fff1", band: "#99999940", mark: "#e28fc0" },
};
const HEIGHT = 240;
const darkness = window.matchMedia("(prefers-color-scheme: dark)");
const drawn = [];
let printing = false; // on paper, which is white
let live = false; // the page shows what happens

/** A figure with a plot, drawn once it has its width. */
function plotOf(plot) {
  const box = element("div", "plot"), told = element("div", "");
  const made = element("figure", "", element("figcaption", "", plot.title, element("small", "", unitsOf(plot))), box, told);
  made.id = `plot-${plot.name}`;
  const holder = { plot: null, box, told, chart: null };
  drawn.push(holder);
  made.update = (now) => change(holder, now);
  tell(holder, plot);
  return made;
}

/** Show what a plot shows now. A part that somebody zoomed into stays. */
function change(holder, plot) {
  const before = holder.plot, { chart } = holder;
  tell(holder, plot);
  if (!chart || JSON.stringify(looksOf(before)) !== JSON.stringify(looksOf(plot))) return chart ? redraw(holder) : undefined;
  const zoomed = zoomOf(chart);
  chart.batch(() => {
    chart.setData([plot.x, ...plot.series.map((series) => series.values)]);
    if (zoomed) chart.setScale("x", zoomed);
  });
  return undefined;
}

function looksOf(plot) {
  return [plot.x_is, plot.x_unit, plot.x.length < 3, plot.series.map((series) => [series.label, series.look])];
}

/** The part of the x axis that somebody zoomed into. */
function zoomOf(chart) {
  const { min, max } = chart.scales.x, places = chart.data[0];
  return min > places[0] || max < places[places.length - 1] ? { min, max } : null;
}

function tell(holder, plot) {
  holder.plot = plot;
  const told = [...(plot.bands || []).map((band) => [band.begin, band.label]), ...(plot.marks || []).map((mark) => [mark.at, mark.label])];
  const made = JSON.stringify([plot.note, told]);
  if (made === holder.words) return;
  holder.words = made;
  const open = holder.told.querySelector("details[open]") !== null;
  holder.told.replaceChildren(...(plot.note ? [element("p", "note", plot.note)] : []), ...(told.length ? [happenings(told, open)] : []));
}

function unitsOf(plot) {
  return plot.x_is === "quantity" ? ` ${plot.unit} by ${plot.x_unit}, in steps of a quarter` : ` ${plot.unit}`;
}

/** What is shaded or marked, in words: nobody must guess, and a plot on paper cannot be pointed at. */
function happenings(told, open) {
  told.sort((one, other) => one[0] - other[0]);
  const list = element("ul", "");
  for (const [at, label] of told.slice(0, 40)) list.append(element("li", "", `${clock(at)} `, foreign("bdi", "", label)));
  const made = element("details", "happened", element("summary", "", `${count(told.length)} shaded or marked`), list);
  made.open = open;
  return made;
}

function drawAll() {
  for (const holder of drawn) redraw(holder);
}

/** Draw a plot anew: what was zoomed into, and the curves that were hidden, stay so. */
function redraw(holder) {
  const old = holder.chart, zoomed = old && zoomOf(old);
  const hidden = new Set(old ? old.series.filter((series) => series.show === false).map((series) => series.label) : []);
  if (old) old.destroy();
  holder.chart = draw(holder, hidden);
  if (zoomed) holder.chart.setScale("x", zoomed);
}

function draw(holder, hidden) {
  const { plot, box } = holder;
  const theme = darkness.matches && !printing ? "dark" : "light", shades = SHADES[theme];
  const axis = { stroke: shades.text, grid: { stroke: shades.grid, width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  const quantity = plot.x_is === "quantity";
  const onX = quantity && plot.x_unit === "s" ? seconds : quantity ? figure : clock;
  const money = plot.unit === "US dollars";
  const options = {
    width: Math.max(260, box.clientWidth),
    height: HEIGHT,
    padding: [null, 28, null, null], // room for the half of the last label on the axis
    legend: { live: true },
    cursor: { drag: { x: true, y: false }, y: false },
    scales: {
      x: quantity ? { time: false, distr: 3 } : { time: false },
      y: { range: (_, least, most) => [Math.min(0, least ?? 0), holder.plot.top || (most > 0 ? most * 1.08 : 1)] },
    },
    axes: [
      { ...axis, values: (_, places) => places.map((place) => (place === null ? "" : onX(place))), space: 70,
        ...(quantity ? { filter: (_, places) => sparse(places) } : {}) },
      { ...axis, values: (_, values) => values.map(money ? dollars : figure), size: 58 },
    ],
    series: [
      { label: quantity ? plot.x_unit : "time", value: (chart, value) => legend(chart, 0, value, plot, onX) },
      ...plot.series.map((series, number) => ({ ...seriesOf(series, COLOURS[theme][number % 8], money, plot), show: !hidden.has(visible(series.label)) })),
    ],
    hooks: { drawClear: [(chart) => shade(chart, holder.plot.bands || [], holder.plot.marks || [], shades)] },
  };
  return new uPlot(options, [plot.x, ...plot.series.map((series) => series.values)], box);
}

/** The places on a logarithmic axis that get a label: the more powers of ten there are, the fewer in each. */
function sparse(places) {
  const powers = Math.log10(places[places.length - 1] / places[0]);
  const first = powers > 3 ? /^1/ : powers > 2 ? /^[15]/ : /^[125]/;
  return places.map((place) => (first.test(place.toExponential()) ? place : null));
}

function seriesOf(series, colour, money, plot) {
  const look = series.look || "line";
  return {
    label: visible(series.label),
    stroke: colour,
    width: look === "limit" ? 1.5 : 2,
    dash: look === "limit" ? [6, 5] : undefined,
    fill: look === "area" || look === "steps" ? colour + "22" : undefined,
    paths: look === "steps" ? uPlot.paths.stepped({ align: 1 }) : undefined,
    points: { show: plot.x.length < 3, size: 6 },
    value: (chart, value, number) => legend(chart, number, value, plot, money ? dollars : figure),
  };
}

/** A value in the legend: the one that is pointed at; else, in a live page, the latest; else none. */
function legend(chart, number, value, plot, inWords) {
  const pointed = chart.cursor && chart.cursor.idx !== null && chart.cursor.idx !== undefined;
  const now = !pointed && live && plot.x_is !== "quantity" && chart.data ? chart.data[number].findLast((each) => each !== null) : value;
  return now === null || now === undefined ? "" : inWords(now);
}

/** Shades pauses and draws marks, below the curves. */
function shade(chart, bands, marks, shades) {
  const { left, top, width, height } = chart.bbox, pen = chart.ctx;
  pen.save();
  pen.beginPath();
  pen.rect(left, top, width, height);
  pen.clip();
  pen.fillStyle = shades.band;
  for (const band of bands) {
    const begin = chart.valToPos(band.begin, "x", true), end = chart.valToPos(band.end, "x", true);
    pen.fillRect(begin, top, Math.max(2, end - begin), height);
  }
  pen.fillStyle = shades.mark;
  for (const mark of marks) pen.fillRect(chart.valToPos(mark.at, "x", true) - 1, top, 2, height);
  pen.restore();
}

/** Bars by category: their lengths, and the figures in words. */
function barsOf(bars) {
  const most = Math.max(...bars.bars.map((bar) => bar.value));
  const body = element("tbody", "");
  for (const bar of bars.bars) {
    const line = element("div", "bar");
    line.style.width = `${(100 * bar.value) / most}%`;
    body.append(element("tr", "", foreign("th", "", bar.label), element("td", "bars", line), element("td", "number", bar.words)));
  }
  return small(bars, element("table", "bars", body));
}

/** A small table; a shaded one shows its numbers by their size as well. */
function cellsOf(cells) {
  const head = element("tr", "", ...cells.heads.map((name) => foreign("th", "", name)));
  const most = Math.max(1, ...cells.rows.flatMap((row) => row.slice(1).map(Number).filter(Number.isFinite)));
  const body = element("tbody", "");
  cells.rows.forEach((row, down) => {
    const line = element("tr", "", foreign("th", "", row[0]));
    row.slice(1).forEach((value, across) => {
      const cell = foreign("td", "number", typeof value === "number" ? count(value) : value);
      if (cells.shaded) {
        cell.style.setProperty("--part", `${value ? 12 + Math.round((58 * value) / most) : 0}%`);
        cell.className += down === across ? " same" : " other";
      }
      line.append(cell);
    });
    body.append(line);
  });
  return small(cells, element("table", cells.shaded ? "cells shaded" : "cells", element("thead", "", head), body));
}

function small(about, table) {
  const made = element("figure", "", foreign("figcaption", "", about.title), element("div", "wide", table));
  made.id = `table-${about.name}`;
  if (about.note) made.append(foreign("p", "note", about.note));
  return made;
}
