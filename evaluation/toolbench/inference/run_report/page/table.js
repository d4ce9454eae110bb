// A table of queries: filtered and sorted in memory, drawn as far as it is scrolled to. What is in it, and what it
// is filtered by, is its subclass's.

const ROWS_AT_ONCE = 60;

class QueryTable {
  constructor(report, trajectories) {
    this.report = report;
    this.trajectories = trajectories;
    this.rows = report.rows;
    this.haystacks = report.rows.map((row) => this.haystackOf(row).toLowerCase());
    const state = readState();
    this.readChoices(state);
    const asked = this.columns.find((column) => column.key === (state.sort || "").replace(/^-/, ""));
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
    byId("export").addEventListener("click", () => saveAs(`${report.title}.csv`, csvOf(this.csvTable(this.found))));
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
    this.drawChoices();
    byId("sort").replaceChildren(...this.columns.flatMap((column) => ["up", "down"].map((way) =>
      h("option", { value: `${column.key} ${way}` }, `${t(column.label)} · ${t(way)}`))));
    this.markSort();
  }

  async update() {
    keepState({
      q: this.search.value, deep: this.deep.checked ? "1" : "", ...this.choiceState(),
      sort: this.sort.key === "position" && this.sort.up ? "" : `${this.sort.up ? "" : "-"}${this.sort.key}`,
    });
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const insides = words.length && this.deep.checked ? await this.trajectories.allTexts() : null;
    const matches = (row) => {
      if (!this.accepts(row)) return false;
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
    const [x, y] = [this.valueOf(a, key), this.valueOf(b, key)];
    if (x === null || y === null) return (x === null) - (y === null) || a.position - b.position;
    const order = typeof x === "string" ? x.localeCompare(y) : x - y;
    return (up ? order : -order) || a.position - b.position;
  }

  drawMore() {
    const next = this.found.slice(this.numDrawn, this.numDrawn + ROWS_AT_ONCE);
    byId("rows").append(...next.map((row) => this.rowElement(row)));
    this.numDrawn += next.length;
    if (!this.found.length) {
      byId("rows").replaceChildren(h("tr", {}, h("td", { class: "empty", colspan: this.columns.length }, t("No query matches."))));
    }
  }

  /** Draw on until this row is there; its link, undefined if the row is filtered out. */
  linkOf(row) {
    const position = this.found.indexOf(row);
    while (position >= this.numDrawn && this.numDrawn < this.found.length) this.drawMore();
    return byId("rows").children[position]?.querySelector("a");
  }

  drawHead() {
    byId("columns").replaceChildren(...this.columns.map((column) =>
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
      if (this.columns[i].key === this.sort.key) head.setAttribute("aria-sort", this.sort.up ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    byId("sort").value = `${this.sort.key} ${this.sort.up ? "up" : "down"}`;
  }
}

/** A table for spreadsheets: texts in quotes, and none that a spreadsheet would take for a formula. */
function csvOf([head, ...rows]) {
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    const text = Array.isArray(value) ? value.join(" ") : String(value);
    return `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  };
  return [head, ...rows.map((row) => row.map(cell))].map((row) => `${row.join(",")}\r\n`).join("");
}

function saveAs(name, text) {
  const address = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
