"use strict";
// Numbers in words, and elements made of text. Text from a run enters the page here, and only as text.

/** An element with a class and children; a child that is no element becomes text. */
function element(kind, className, ...children) {
  const made = document.createElement(kind);
  if (className) made.className = className;
  for (const child of children) {
    if (child !== null && child !== undefined) made.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return made;
}

/** Somebody else's text in an element of its own, whatever its direction. */
function foreign(kind, className, text) {
  const made = element(kind, className, visible(text));
  made.dir = "auto";
  return made;
}

/** A text with control characters, and those that turn its direction, as their escapes. */
function visible(text) {
  return String(text).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g,
    (character) => "\\u" + character.charCodeAt(0).toString(16).padStart(4, "0"));
}

function count(number) {
  return number.toLocaleString("en-US");
}

/** A figure of any size with at most three digits that matter. */
function figure(value) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  if (size >= 1e9) return short(value / 1e9) + " G";
  if (size >= 1e6) return short(value / 1e6) + " M";
  if (size >= 1e4) return short(value / 1e3) + " k";
  return size >= 1000 ? count(Math.round(value)) : short(value);
}

function short(value) {
  return value === 0 ? "0" : String(Number(value.toPrecision(3)));
}

/** Seconds: `0.21 ms`, `85.2 ms`, `2.1 s`, `4 min 05 s`. */
function seconds(value) {
  if (value === null || value === undefined) return "";
  if (value < 0.1) return `${short(value * 1000)} ms`;
  return value < 60 ? `${short(value)} s` : clock(value);
}

/** A place on the time axis: `12 s`, `4:05`, `1:02:00`. */
function clock(value) {
  const whole = Math.round(value), two = (number) => String(number).padStart(2, "0");
  if (whole < 60) return `${short(value)} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}:${two(whole % 60)} min`;
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)} h`;
}

function dollars(value) {
  return value === null || value === undefined ? "" : `$${value >= 1 ? value.toFixed(2) : String(Number(value.toPrecision(3)))}`;
}

/** What `packed` in packing.py packed. */
async function unpacked(packed) {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}
