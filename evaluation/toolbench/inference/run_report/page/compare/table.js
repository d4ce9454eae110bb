// The table of queries with what both runs made of each, filtered by who solved it.

const SHOWN = ["all", "both", "left", "right", "neither", "left_alone", "right_alone", "unjudged"];

class PairTable extends QueryTable {
  get columns() {
    const both = (label) => `${t(label)} ${letter(pair.left)} · ${letter(pair.right)}`;
    return [
      { key: "position", label: "Id" },
      { key: "query", label: "Query" },
      { key: "left", label: letter(pair.left) },
      { key: "right", label: letter(pair.right) },
      { key: "parted", label: "Parted at" },
      { key: "steps", label: both("Steps"), number: true },
      { key: "calls", label: both("API calls"), number: true },
      { key: "tokens", label: both("Tokens"), number: true },
      { key: "seconds", label: both("Time"), number: true },
    ];
  }

  haystackOf(row) {
    return [row.set, row.id, row.query, ...row.tools, ...row.cells.map((cell) => cell?.answer || "")].join("\n");
  }

  readChoices(state) {
    this.show = SHOWN.includes(state.show) ? state.show : "all";
    this.by = state.by === "answer" ? "answer" : "judge";
  }

  choiceState() {
    return { ...pairState(), show: this.show === "all" ? "" : this.show, by: this.by === "judge" ? "" : this.by };
  }

  /** Whether a run did it, by the judge or by having given an answer; null if nobody can say. */
  didIt(cell) {
    if (this.by === "answer" || !this.isJudged) return cell.outcome === "answered";
    return cell.status === null ? null : cell.status === "Solved";
  }

  get isJudged() {
    return Boolean(testsOf(this.report, ALL_SETS)?.solved);
  }

  groupOf(row) {
    const [left, right] = [row.cells[pair.left], row.cells[pair.right]];
    if (!left || !right) return left ? "left_alone" : right ? "right_alone" : null;
    const [a, b] = [this.didIt(left), this.didIt(right)];
    if (a === null || b === null) return "unjudged";
    return a ? (b ? "both" : "left") : b ? "right" : "neither";
  }

  accepts(row) {
    const group = this.groupOf(row);
    return isInSet(row) && group !== null && (this.show === "all" || group === this.show);
  }

  /** Sorted by how much the runs differ, in numbers. */
  valueOf(row, key) {
    const [left, right] = [row.cells[pair.left], row.cells[pair.right]];
    if (key === "position" || key === "query") return row[key];
    if (key === "parted") return parting(row)?.step ?? null;
    if (key === "left" || key === "right") {
      const cell = key === "left" ? left : right;
      return cell ? `${cell.status || ""} ${cell.outcome}` : null;
    }
    const [a, b] = [left?.[key] ?? null, right?.[key] ?? null];
    return a === null || b === null ? null : b - a;
  }

  drawChoices() {
    const did = this.by === "answer" || !this.isJudged ? "answered" : "solved";
    const [a, b] = [letter(pair.left), letter(pair.right)];
    const labels = {
      all: t("All"), both: t(`Both ${did}`), left: t(`{run} ${did}, {other} not`, { run: a, other: b }),
      right: t(`{run} ${did}, {other} not`, { run: b, other: a }), neither: t(`Neither ${did}`),
      left_alone: t("Only in {run}", { run: a }), right_alone: t("Only in {run}", { run: b }), unjudged: t("Not judged in both"),
    };
    const numbers = Object.fromEntries(SHOWN.map((group) => [group, 0]));
    for (const row of this.rows.filter(isInSet)) {
      const group = this.groupOf(row);
      if (group) numbers.all += 1, (numbers[group] += 1);
    }
    this.drawChips(byId("outcome-filter"), "show", SHOWN.filter((group, i) => i < 5 || numbers[group]).map((group) => [group, labels[group], numbers[group]]));
    byId("by").hidden = !this.isJudged;
    this.drawChips(byId("by"), "by", [["judge", `${t("By")} ${t("judge")}`], ["answer", `${t("By")} ${t("final answer")}`]]);
  }

  /** Chips that set one choice. Those that are there already stay the elements that they are, so focus stays as well. */
  drawChips(container, choice, chips) {
    const known = new Map([...container.children].map((button) => [button.dataset.value, button]));
    const buttons = chips.map(([value, label, number]) => {
      const button = known.get(value) || h("button", { type: "button", "data-value": value, onclick: () => {
        this[choice] = value;
        this.drawChoices();
        this.update();
      } });
      button.setAttribute("aria-pressed", String(this[choice] === value));
      button.replaceChildren(label, ...(number === undefined ? [] : [h("b", {}, NUMBER.format(number))]));
      return button;
    });
    for (const button of known.values()) if (!buttons.includes(button)) button.remove();
    buttons.forEach((button, i) => container.children[i] !== button && container.insertBefore(button, container.children[i] || null));
  }

  rowElement(row) {
    const [left, right] = [row.cells[pair.left], row.cells[pair.right]];
    const address = `#${encodeURIComponent(row.key)}`;
    const open = (event) => {
      if (!event.target.closest("a") && !String(getSelection())) location.hash = address;
    };
    const both = (name, show) => h("td", { class: "number", "data-name": t(name) }, `${show(left)} · ${show(right)}`);
    const number = (key) => (cell) => (cell?.[key] ?? null) === null ? "–" : NUMBER.format(cell[key]);
    return h("tr", { onclick: open },
      h("td", { class: "id" }, row.key),
      h("td", { class: "text" }, h("a", { href: address }, row.query || t("(text of the query not recorded)"))),
      [pair.left, pair.right].map((run) => h("td", { class: "of-run" }, h("span", { class: "only-phone" }, runTag(run)), badgesOf(row.cells[run]))),
      h("td", { class: "parted", "data-name": t("Parted at") }, partingText(row)),
      both("Steps", number("steps")), both("API calls", number("calls")), both("Tokens", number("tokens")),
      both("Time", (cell) => duration(cell?.seconds)));
  }

  /** One line for each query that is shown; columns of a run begin with its letter. */
  csvTable(rows) {
    const fields = ["outcome", "status", "score", "steps", "calls", "errors", "missed", "tokens", "seconds", "tools", "answer"];
    const runs = [pair.left, pair.right];
    const head = ["set", "id", "query", "group", "parted_at", "parted_in", ...runs.flatMap((run) => fields.map((field) => `${letter(run)}_${field}`)),
      ...runs.map((run) => `${letter(run)}_run`)];
    const lines = rows.map((row) => {
      const parted = parting(row);
      const cells = runs.flatMap((run) => fields.map((field) => (field === "tools" ? toolsOf(row, row.cells[run]) : row.cells[run]?.[field])));
      return [row.set, row.id, row.query, this.groupOf(row), parted?.step, parted?.how ?? (parted === null ? "same" : null), ...cells,
        ...runs.map((run) => this.report.runs[run].name)];
    });
    return [head, ...lines];
  }
}

function badgesOf(cell) {
  if (!cell) return h("span", { class: "muted" }, t("not in this run"));
  return [badge(cell.outcome), cell.status && h("span", { class: `badge status-${cell.status}` }, t(cell.status))];
}

function partingText(row) {
  const parted = parting(row);
  if (!row.cells[pair.left] || !row.cells[pair.right]) return "–";
  if (parted === undefined) return t("not known");
  return parted === null ? t("same") : `${parted.step} · ${t(parted.how)}`;
}
