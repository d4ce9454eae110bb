// Arguments and observations: JSON laid out to be read, whole or cut off, and as it is on demand.

const CLIPPED_ABOVE = 900; // characters of a text that are shown at once
const CLIPPED_LINES = 12;
const SHORT_ENTRY = 72; // characters of a JSON object or list that stays on one line
const DEEPEST = 60; // levels of nesting that are laid out: more would go off the page, and then end the script

/** A text of the model or of an API: laid out if it is JSON, exactly as it is on demand. */
function said(title, text) {
  const value = parsed(text);
  const block = h("pre", { class: "block" });
  const head = h("div", { class: "said-head" }, h("span", {}, t(title)));
  const button = (label, onclick) => head.appendChild(h("button", { type: "button", onclick }, label));
  let isRaw = value === undefined;
  const draw = () => {
    const parts = new DocumentFragment();
    for (const part of isRaw ? [text] : laidOut(value)) parts.append(part); // one by one: a call takes only so many
    block.replaceChildren(parts);
  };
  draw();
  if (value !== undefined) {
    const raw = button(t("raw"), () => {
      isRaw = !isRaw;
      raw.textContent = t(isRaw ? "laid out" : "raw");
      draw();
    });
  }
  if (text.length > CLIPPED_ABOVE || block.textContent.split("\n").length > CLIPPED_LINES) {
    const all = t("all {n} characters", { n: NUMBER.format(text.length) });
    block.classList.add("is-clipped");
    const clip = button(all, () => (clip.textContent = block.classList.toggle("is-clipped") ? all : t("less")));
  }
  head.append(copyButton(t("copy"), text));
  return h("div", { class: "said" }, head, block);
}

/** The value of a JSON object or list, also of one that was cut off, with JSON inside its `response` unpacked as
 *  well; undefined for other text, and for what is nested too deep. */
function parsed(text) {
  if (!/^\s*[[{]/.test(text) || isTooDeep(text)) return undefined;
  for (const candidate of [() => text, ...completions(text)]) {
    try {
      const value = JSON.parse(candidate());
      if (typeof value.response === "string") {
        const inner = quoted(value.response) ?? parsed(value.response);
        if (inner !== undefined) value.response = inner;
      }
      return value;
    } catch {
      // The next candidate may be JSON.
    }
  }
  return undefined;
}

/** Calls `visit` with each bracket and comma of JSON that is not within a string, and its place; tells whether the
 *  text stops within a string. */
function eachMark(text, visit) {
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (inString) {
      if (character === "\\") i += 1;
      else if (character === '"') inString = false;
    } else if (character === '"') inString = true;
    else if ("{[}],".includes(character)) visit(character, i);
  }
  return inString;
}

function isTooDeep(text) {
  let depth = 0;
  let deepest = 0;
  eachMark(text, (mark) => {
    if (mark === "{" || mark === "[") deepest = Math.max(deepest, ++depth);
    else if (mark !== ",") depth -= 1;
  });
  return deepest > DEEPEST;
}

/** The text in a JSON string; undefined for anything else. */
function quoted(text) {
  if (!/^\s*"[^]*"\s*$/.test(text)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Ways to end JSON that was cut off: within the string it stops in, or after the last whole entry. */
function completions(text) {
  const open = []; // closing brackets that are still to come
  let lastEntry = null;
  const inString = eachMark(text, (mark, end) => {
    if (mark === "{" || mark === "[") open.push(mark === "{" ? "}" : "]");
    else if (mark === ",") lastEntry = { end, closing: closing(open) };
    else open.pop();
  });
  // Without the mark of the cut, and without the beginning of an escape that it left.
  const start = text.replace(/\.\.\.$/, "").replace(/(?<!\\)((?:\\\\)*)\\(?:u[0-9a-f]{0,3})?$/i, "$1");
  return [
    () => `${start}${inString ? '…"' : ""}${closing(open)}`,
    () => (lastEntry ? text.slice(0, lastEntry.end) + lastEntry.closing : ""),
  ];
}

function closing(open) {
  return [...open].reverse().join("");
}

/** Indented JSON as nodes, keys and literals marked; line breaks in strings are shown as such. */
function laidOut(value, indent = "") {
  if (value === null || typeof value !== "object") {
    return typeof value === "string" ? [JSON.stringify(value).replaceAll("\\n", "\n" + indent)] : [h("span", { class: "literal" }, String(value))];
  }
  const isList = Array.isArray(value);
  const entries = Object.entries(value);
  if (!entries.length) return [isList ? "[]" : "{}"];
  if (isShort(value)) return onOneLine(value, isList);
  const inner = indent + "  ";
  const lines = entries.flatMap(([key, item], position) => [
    inner, ...(isList ? [] : [h("span", { class: "key" }, key), ": "]), ...laidOut(item, inner), position < entries.length - 1 ? ",\n" : "\n",
  ]);
  return [isList ? "[\n" : "{\n", ...lines, indent, isList ? "]" : "}"];
}

function isShort(value) {
  return Object.values(value).every((item) => item === null || typeof item !== "object") && JSON.stringify(value).length <= SHORT_ENTRY;
}

function onOneLine(value, isList) {
  const entries = Object.entries(value).flatMap(([key, item], position) => [
    position ? ", " : "", ...(isList ? [] : [h("span", { class: "key" }, key), ": "]), ...laidOut(item),
  ]);
  return isList ? ["[", ...entries, "]"] : ["{ ", ...entries, " }"];
}
