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
    this.outcome = null;
    this.sort = { key: "position", up: true };
    this.found = this.rows;
    this.numDrawn = 0;
    this.search = byId("search");
    this.deep = byId("deep");
    this.drawHead();
    this.drawOutcomes();
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

  async update() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const insides = words.length && this.deep.checked ? await this.trajectories.allTexts() : null;
    const matches = (row) => {
      if (this.outcome && row.outcome !== this.outcome) return false;
      return words.every((word) => this.haystacks[row.position].includes(word) || (insides && insides[row.position].includes(word)));
    };
    this.found = this.rows.filter(matches).sort((a, b) => this.compare(a, b));
    byId("shown").textContent = this.found.length === this.rows.length
      ? NUMBER.format(this.rows.length)
      : `${NUMBER.format(this.found.length)} of ${NUMBER.format(this.rows.length)}`;
    byId("rows").replaceChildren();
    this.numDrawn = 0;
    this.drawMore();
  }

  /** Rows without a value come last, whichever way the others are sorted. */
  compare(a, b) {
    const { key, up } = this.sort;
    const [x, y] = [a[key], b[key]];
    if (x === null || y === null) return (x === null) - (y === null) || a.position - b.position;
    const order = typeof x === "string" ? x.localeCompare(y) : x - y;
    return (up ? order : -order) || a.position - b.position;
  }

  drawMore() {
    const next = this.found.slice(this.numDrawn, this.numDrawn + ROWS_AT_ONCE);
    byId("rows").append(...next.map(rowElement));
    this.numDrawn += next.length;
    if (!this.found.length) {
      byId("rows").replaceChildren(h("tr", {}, h("td", { class: "empty", colspan: COLUMNS.length }, "No query matches.")));
    }
  }

  drawHead() {
    byId("columns").replaceChildren(...COLUMNS.map((column) => {
      const sorted = this.sort.key === column.key ? (this.sort.up ? "ascending" : "descending") : null;
      return h("th", { scope: "col", class: column.number ? "number" : null, "aria-sort": sorted },
        h("button", { type: "button", onclick: () => this.sortBy(column) }, column.label));
    }));
  }

  sortBy(column) {
    this.sort = { key: column.key, up: this.sort.key === column.key ? !this.sort.up : !column.number };
    this.drawHead();
    this.update();
  }

  drawOutcomes() {
    const choices = [[null, this.rows.length], ...outcomesOf(this.report)];
    byId("outcome-filter").replaceChildren(...choices.map(([outcome, number]) =>
      h("button", {
        type: "button", "aria-pressed": String(this.outcome === outcome),
        onclick: () => { this.outcome = outcome; this.drawOutcomes(); this.update(); },
      }, outcome && h("i", { class: `dot tone-${outcome}` }), outcome ? OUTCOMES[outcome] : "All", h("b", {}, NUMBER.format(number)))));
  }
}

function rowElement(row) {
  const address = `#${encodeURIComponent(row.key)}`;
  const open = (event) => {
    if (!event.target.closest("a") && !String(getSelection())) location.hash = address;
  };
  const number = (name, text, isBad) => h("td", { class: isBad ? "number bad" : "number", "data-name": name }, text);
  return h("tr", { onclick: open },
    h("td", { class: "id" }, row.key),
    h("td", {}, badge(row.outcome)),
    h("td", { class: "text" }, h("a", { href: address }, row.query || "(text of the query not recorded)"), row.answer && h("p", {}, row.answer)),
    number("steps", NUMBER.format(row.steps)),
    number("API calls", NUMBER.format(row.calls)),
    number("errors", row.errors ? NUMBER.format(row.errors) : "–", row.errors > 0),
    number("time", duration(row.seconds)),
    number("tokens", row.tokens === null ? "–" : NUMBER.format(row.tokens)));
}
