// One query as both runs went about it: two columns of steps, where they part, and what judges said.

function drawQuery(container, row, details, neighbours) {
  const sides = [pair.left, pair.right];
  container.replaceChildren(...[
    crumbs(row, neighbours),
    h("h1", { class: "question", tabindex: "-1" }, row.query || t("(text of the query not recorded)")),
    h("div", { class: "meta" }, h("span", { class: "mono" }, row.key), partedLine(row)),
    h("div", { class: "columns" }, sides.map((run) => runColumn(run, row, details[run]))),
    h("p", { class: "hint" }, h("kbd", {}, "←"), " ", h("kbd", {}, "→"), ` ${t("previous and next query,")} `, h("kbd", {}, "Esc"), ` ${t("back to the table")}`),
  ].filter(Boolean));
  const parted = parting(row);
  if (parted) for (const run of sides) markParting(container.querySelector(`#step-${letter(run)}${parted.step}`));
}

function partedLine(row) {
  if (!row.cells[pair.left] || !row.cells[pair.right]) return null;
  const parted = parting(row);
  if (parted === undefined) return h("span", {}, t("Their steps cannot be compared: one left no texts of them."));
  if (parted === null) return h("span", {}, t("Both took the same steps and got the same replies."));
  const longer = [pair.left, pair.right].find((run) => row.cells[run].path.length >= parted.step);
  return h("a", { href: `#${encodeURIComponent(row.key)}/${letter(longer)}${parted.step}` },
    t("They part at step {n}: {how}.", { n: parted.step, how: t(parted.how) }));
}

function markParting(step) {
  if (!step) return;
  step.classList.add("is-parting");
  step.querySelector(".step-head").prepend(h("span", { class: "badge parting" }, t("The two part here")));
}

function runColumn(run, row, detail) {
  const cell = row.cells[run];
  const head = h("h2", {}, runTag(run), " ", report.runs[run].name);
  if (!cell) return h("section", { class: "column" }, head, h("p", { class: "muted" }, t("not in this run")));
  const numbered = { next: 1, side: letter(run) };
  const several = detail.trajectories.length > 1;
  const tools = [...new Set(toolsOf(row, cell))];
  const facts = [count(cell.steps, "step"), count(cell.calls, "API call"), cell.tokens !== null && count(cell.tokens, "token"),
    cell.seconds !== null && duration(cell.seconds), cell.tries > 1 && t("{n} tries", { n: cell.tries })];
  return h("section", { class: "column" }, head,
    h("div", { class: "meta" }, badgesOf(cell), facts.filter(Boolean).map((fact) => h("span", {}, fact))),
    tools.length > 0 && h("p", { class: "mono tools" }, tools.join(", ")),
    detail.error && problemPanel(detail, cell),
    detail.final_answer && h("div", { class: "panel answer" }, h("h3", {}, t("Final answer")), h("p", { class: "prose" }, detail.final_answer)),
    verdictPanel(cell, detail),
    detail.trajectories.map((trajectory, i) => {
      const body = drawTrajectory(trajectory, numbered);
      return several ? drawFold(t("Try {n} of {all}", { n: i + 1, all: detail.trajectories.length }), trajectory, body, "is-try", true) : body;
    }));
}

/** What the judge said in each repeat, and why. */
function verdictPanel(cell, detail) {
  const statuses = new Map(detail.statuses || []);
  const remarks = detail.remarks || [];
  if (!statuses.size && !remarks.length) return null;
  const repeats = [...new Set([...statuses.keys(), ...remarks.map((remark) => remark.repeat)])].sort((a, b) => a - b);
  return h("details", { class: "fold verdicts", open: true },
    h("summary", {}, t("Verdicts"), cell.status && h("span", { class: `badge status-${cell.status}` }, t(cell.status)),
      cell.score !== null && h("span", { class: "muted" }, ` ${t("score")} ${cell.score.toFixed(2)}`)),
    h("div", { class: "fold-body" }, repeats.map((repeat) => {
      const said = remarks.filter((remark) => remark.repeat === repeat);
      const status = statuses.get(repeat);
      return h("div", { class: "verdict" },
        h("div", { class: "meta" }, h("span", { class: "muted" }, t("repeat {n}", { n: repeat + 1 })),
          h("span", { class: `badge status-${status || "none"}` }, t(status || "Undecided")),
          !said.length && h("span", { class: "muted" }, t("by rule, without a judge"))),
        said.map((remark) => h("p", { class: "prose" }, remark.reason || t("no reason given"), " ",
          h("span", { class: "muted" }, [remark.check, remark.verdict, remark.model].filter(Boolean).join(" · ")))));
    })));
}
