// The table of one run's queries, filtered by their outcome.

const CSV_COLUMNS = [
  "id", "method", "outcome", "query", "answer", "steps", "calls", "errors", "missed", "seconds", "generation_s", "api_s",
  "tokens", "prompt_tokens", "tries", "attempts", "tools",
];

function makeTable(report, trajectories) {
  return new RunTable(report, trajectories);
}

class RunTable extends QueryTable {
  get columns() {
    return [
      { key: "position", label: "Id" },
      { key: "outcome", label: "Outcome" },
      { key: "query", label: "Query and answer" },
      { key: "steps", label: "Steps", number: true },
      { key: "calls", label: "API calls", number: true },
      { key: "errors", label: "Errors", number: true },
      { key: "seconds", label: "Time", number: true },
      { key: "tokens", label: "Tokens", number: true },
    ];
  }

  haystackOf(row) {
    return [row.id, row.query, row.answer, ...row.tools].join("\n");
  }

  readChoices(state) {
    this.outcome = OUTCOMES[state.outcome] ? state.outcome : null;
  }

  choiceState() {
    return { outcome: this.outcome };
  }

  accepts(row) {
    return !this.outcome || row.outcome === this.outcome;
  }

  valueOf(row, key) {
    return key === "errors" ? row.errors + row.missed : row[key];
  }

  drawChoices() {
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

  rowElement(row) {
    const address = `#${encodeURIComponent(row.key)}`;
    const open = (event) => {
      if (!event.target.closest("a") && !String(getSelection())) location.hash = address;
    };
    const number = (name, text, isBad) => h("td", { class: isBad ? "number bad" : "number", "data-name": t(name) }, text);
    return h("tr", { onclick: open },
      h("td", { class: "id" }, row.key),
      h("td", {}, badge(row.outcome)),
      h("td", { class: "text" }, h("a", { href: address }, row.query || t("(text of the query not recorded)")), row.answer && h("p", {}, reasonOf(row, row.answer))),
      number("steps", NUMBER.format(row.steps)),
      number("API calls", NUMBER.format(row.calls)),
      number("errors", row.errors + row.missed ? NUMBER.format(row.errors + row.missed) : "–", row.errors + row.missed > 0),
      number("time", duration(row.seconds)),
      number("tokens", row.tokens === null ? "–" : NUMBER.format(row.tokens)));
  }

  csvTable(rows) {
    return [CSV_COLUMNS, ...rows.map((row) => CSV_COLUMNS.map((column) => row[column]))];
  }
}
