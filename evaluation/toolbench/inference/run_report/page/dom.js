// Small tools. Text from a run reaches the page through `textContent` and attributes only, never as markup.

const SVG = document.getElementById("svg-origin").namespaceURI;

/** An element with attributes and children; children that are null or false are left out. */
function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

const OUTCOMES = {
  answered: "Answered",
  gave_up: "Gave up",
  no_answer: "No answer",
  failed: "Failed",
  unreadable: "Unreadable",
  unfinished: "Not finished",
  not_begun: "Not begun",
};

function badge(outcome, text) {
  return h("span", { class: `badge tone-${outcome}` }, text || t(OUTCOMES[outcome] || outcome));
}

/** What a query has instead of an answer: the run's own words, but for one that it did not come to. */
function reasonOf(row, words) {
  return row.outcome === "unfinished" ? t(words) : words;
}

const NUMBER = new Intl.NumberFormat("en");

function count(value, noun) {
  if (language === "zh") return `${NUMBER.format(value)} ${COUNTED[noun]}`;
  return `${NUMBER.format(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** A button that puts a text on the clipboard, and says so for a moment. */
function copyButton(label, text, attributes) {
  const button = h("button", { type: "button", ...attributes, onclick: async () => {
    await copyText(typeof text === "function" ? text() : text);
    button.textContent = t("copied");
    setTimeout(() => (button.textContent = label), 1200);
  } }, label);
  return button;
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages from disk may not be allowed to: the older way asks for no permission.
    const area = document.body.appendChild(h("textarea", { class: "off-screen" }));
    const before = document.activeElement;
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
    before?.focus();
  }
}

/** 0.042 -> "42 ms", 4.21 -> "4.2 s", 75 -> "1 min 15 s", 7260 -> "2 h 01 min". */
function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  const minutes = Math.round(whole / 60);
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** A position on a time axis: "0:05", "12:30", "1:02:30". */
function clock(seconds) {
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 60) % 60, whole % 60].map((part) => String(part).padStart(2, "0"));
  const hours = Math.floor(whole / 3600);
  return hours ? `${hours}:${parts[0]}:${parts[1]}` : `${Number(parts[0])}:${parts[1]}`;
}

function gib(bytes) {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function shortNumber(value) {
  if (value >= 1e6) return `${(value / 1e6).toFixed(value < 1e7 ? 2 : 1)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  return NUMBER.format(Math.round(value));
}

function dateTime(epochSeconds) {
  return new Date(epochSeconds * 1000).toLocaleString(language === "zh" ? "zh-CN" : undefined, { dateStyle: "medium", timeStyle: "short" });
}
