// The table of queries: filtered and sorted in memory, drawn as far as it is scrolled to.

const ROWS_AT_ONCE = 60;
const COLUMNS = [
  { key: "position", label: "Id" },
  { key: "outcome", label: "Outcome" },
  { key: "query", label: "Query and answer" },
  { key: "steps", label: "Steps", number: true },
  { key: "calls", label: "API calls", number: true },
  { key: "errors", label: "Errors", number: true },
  { key: "seconds", label: "Time", number: true },
  { key: "tokens", label: "Tokens", number: true },
];

class QueryTable {
  constructor(report, trajectories) {
    this.report = report;
    this.trajectories = trajectories;
    this.rows = report.rows;
    this.haystacks = report.rows.map((row) => [row.id, row.query, row.answer, ...row.tools].join("\n").toLowerCase());
    const state = readState();
    this.outcome = OUTCOMES[state.outcome] ? state.outcome : null;
    const asked = COLUMNS.find((column) => column.key === (state.sort || "").replace(/^-/, ""));
    this.sort = asked ? { key: asked.key, up: !state.sort.startsWith("-") } : { key: "position", up: true };
    this.found = this.rows;
    this.numDrawn = 0;
    this.search = byId("search");
    this.deep = byId("deep");
    this.search.value = state.q || "";
    this.deep.checked = Boolean(state.deep);
    byId("sort").addEventListener("change", (event) => {
      const [key, way] = event.target.value.split(" ");
      this.sortTo({ key, up: way === "up" });
    });
    byId("export").addEventListener("click", () => saveAs(`${report.title}.csv`, csvOf(this.found)));
    this.translate();
    let timer = 0;
    this.search.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.update(), 100);
    });
    this.deep.addEventListener("change", () => this.update());
    new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) this.drawMore();
    }, { rootMargin: "600px" }).observe(byId("sentinel"));
    this.update();
  }

  /** Draw what does not change with the rows, in the reader's language. */
  translate() {
    this.drawHead();
    this.drawOutcomes();
    byId("sort").replaceChildren(...COLUMNS.flatMap((column) => ["up", "down"].map((way) =>
      h("option", { value: `${column.key} ${way}` }, `${t(column.label)} · ${t(way)}`))));
    this.markSort();
  }

  async update() {
    keepState({
      q: this.search.value, deep: this.deep.checked ? "1" : "", outcome: this.outcome,
      sort: this.sort.key === "position" && this.sort.up ? "" : `${this.sort.up ? "" : "-"}${this.sort.key}`,
    });
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const insides = words.length && this.deep.checked ? await this.trajectories.allTexts() : null;
    const matches = (row) => {
      if (this.outcome && row.outcome !== this.outcome) return false;
      return words.every((word) => this.haystacks[row.position].includes(word) || (insides && insides[row.position].includes(word)));
    };
    this.found = this.rows.filter(matches).sort((a, b) => this.compare(a, b));
    byId("shown").textContent = this.found.length === this.rows.length
      ? NUMBER.format(this.rows.length)
      : t("{n} of {all}", { n: NUMBER.format(this.found.length), all: NUMBER.format(this.rows.length) });
    byId("rows").replaceChildren();
    this.numDrawn = 0;
    this.drawMore();
  }

  /** Rows without a value come last, whichever way the others are sorted. */
  compare(a, b) {
    const { key, up } = this.sort;
    const value = (row) => (key === "errors" ? row.errors + row.missed : row[key]);
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null) || a.position - b.position;
    const order = typeof x === "string" ? x.localeCompare(y) : x - y;
    return (up ? order : -order) || a.position - b.position;
  }

  drawMore() {
    const next = this.found.slice(this.numDrawn, this.numDrawn + ROWS_AT_ONCE);
    byId("rows").append(...next.map(rowElement));
    this.numDrawn += next.length;
    if (!this.found.length) {
      byId("rows").replaceChildren(h("tr", {}, h("td", { class: "empty", colspan: COLUMNS.length }, t("No query matches."))));
    }
  }

  /** Draw on until this row is there; its link, undefined if the row is filtered out. */
  linkOf(row) {
    const position = this.found.indexOf(row);
    while (position >= this.numDrawn && this.numDrawn < this.found.length) this.drawMore();
    return byId("rows").children[position]?.querySelector("a");
  }

  drawHead() {
    byId("columns").replaceChildren(...COLUMNS.map((column) =>
      h("th", { scope: "col", class: column.number ? "number" : null },
        h("button", { type: "button", onclick: () => this.sortBy(column) }, t(column.label)))));
  }

  sortBy(column) {
    this.sortTo({ key: column.key, up: this.sort.key === column.key ? !this.sort.up : !column.number });
  }

  sortTo(sort) {
    this.sort = sort;
    this.markSort();
    this.update();
  }

  /** Buttons stay the elements that they are: whoever pressed one goes on from there. */
  markSort() {
    [...byId("columns").children].forEach((head, i) => {
      if (COLUMNS[i].key === this.sort.key) head.setAttribute("aria-sort", this.sort.up ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    byId("sort").value = `${this.sort.key} ${this.sort.up ? "up" : "down"}`;
  }

  drawOutcomes() {
    const choices = [[null, this.rows.length], ...outcomesOf(this.report)];
    const buttons = choices.map(([outcome, number]) => h("button", {
      type: "button", "aria-pressed": String(this.outcome === outcome),
      onclick: () => {
        this.outcome = outcome;
        buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(choices[i][0] === outcome)));
        this.update();
      },
    }, outcome && h("i", { class: `dot tone-${outcome}` }), t(outcome ? OUTCOMES[outcome] : "All"), h("b", {}, NUMBER.format(number))));
    byId("outcome-filter").replaceChildren(...buttons);
  }
}

const CSV_COLUMNS = [
  "id", "method", "outcome", "query", "answer", "steps", "calls", "errors", "missed", "seconds", "generation_s", "api_s",
  "tokens", "prompt_tokens", "tries", "attempts", "tools",
];

/** A table for spreadsheets: texts in quotes, and none that a spreadsheet would take for a formula. */
function csvOf(rows) {
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    const text = Array.isArray(value) ? value.join(" ") : String(value);
    return `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  };
  const lines = rows.map((row) => CSV_COLUMNS.map((column) => cell(row[column])).join(","));
  return [CSV_COLUMNS.join(","), ...lines].join("\r\n") + "\r\n";
}

function saveAs(name, text) {
  const address = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function rowElement(row) {
  const address = `#${encodeURIComponent(row.key)}`;
  const open = (event) => {
    if (!event.target.closest("a") && !String(getSelection())) location.hash = address;
  };
  const number = (name, text, isBad) => h("td", { class: isBad ? "number bad" : "number", "data-name": t(name) }, text);
  return h("tr", { onclick: open },
    h("td", { class: "id" }, row.key),
    h("td", {}, badge(row.outcome)),
    h("td", { class: "text" }, h("a", { href: address }, row.query || t("(text of the query not recorded)")), row.answer && h("p", {}, row.answer)),
    number("steps", NUMBER.format(row.steps)),
    number("API calls", NUMBER.format(row.calls)),
    number("errors", row.errors + row.missed ? NUMBER.format(row.errors + row.missed) : "–", row.errors + row.missed > 0),
    number("time", duration(row.seconds)),
    number("tokens", row.tokens === null ? "–" : NUMBER.format(row.tokens)));
}
