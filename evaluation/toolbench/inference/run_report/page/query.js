// One query of the run: its question, what it cost, its answer, and its steps.

/** Draw `row` into `container`. `neighbours` are the rows before and after it in the table as it is filtered. */
function drawQuery(container, row, detail, neighbours) {
  const numbered = { next: 1 };
  const several = detail.trajectories.length > 1;
  const hasForks = detail.trajectories.some((trajectory) => trajectory.branches);
  const parts = detail.trajectories.map((trajectory, position) => {
    const body = drawTrajectory(trajectory, numbered);
    const title = t("Try {n} of {all}", { n: position + 1, all: detail.trajectories.length });
    return several ? drawFold(title, trajectory, body, "is-try", true) : body;
  });
  const content = [
    crumbs(row, neighbours),
    h("h1", { class: "question", tabindex: "-1" }, row.query || t("(text of the query not recorded)")),
    meta(row),
    timeStrip(row, detail),
    detail.error && problemPanel(detail, row),
    detail.final_answer && h("div", { class: "panel answer" }, h("h3", {}, t("Final answer")), h("p", { class: "prose" }, detail.final_answer)),
    hasForks && outline(row, detail),
    ...parts,
    h("p", { class: "hint" }, h("kbd", {}, "←"), " ", h("kbd", {}, "→"), ` ${t("previous and next query,")} `, h("kbd", {}, "Esc"), ` ${t("back to the table")}`),
  ];
  container.replaceChildren(...content.filter(Boolean));
}

function meta(row) {
  const facts = [
    row.method,
    row.tries > 1 && t("{n} tries", { n: row.tries }),
    count(row.steps, "step"),
    count(row.calls, "API call"),
    row.tokens !== null && count(row.tokens, "token"),
    row.seconds !== null && duration(row.seconds),
    row.attempts > 1 && t("begun {n} times", { n: row.attempts }),
  ];
  return h("div", { class: "meta" }, h("span", { class: "mono" }, row.key), badge(row.outcome),
    facts.filter(Boolean).map((fact) => h("span", {}, fact)));
}

/** When the model generated and when an API was waited for, from the query's start to its end. */
function timeStrip(row, detail) {
  const spans = [];
  let number = 0;
  for (const trajectory of detail.trajectories) {
    for (const step of stepsOf(trajectory)) {
      number += 1;
      for (const [state, span] of [["generating", step.generation], ["waiting", step.call]]) {
        if (span) spans.push({ state, number, ...span });
      }
    }
  }
  if (!spans.length) return null;
  const total = Math.max(row.seconds || 0, ...spans.map((span) => span.at + span.seconds));
  const plot = h("div", { class: "strip-plot" }, spans.map((span) => {
    const link = h("a", {
      href: `#${encodeURIComponent(row.key)}/${span.number}`, class: `fill-${span.state}`,
      title: t("step {n}: {state}, {time}", {
        n: span.number, state: t(STATES.find(([state]) => state === span.state)[1]), time: duration(span.seconds),
      }),
    });
    link.style.left = `${(100 * span.at) / total}%`;
    link.style.width = `${(100 * span.seconds) / total}%`;
    return link;
  }));
  return h("div", { class: "strip" }, plot, h("div", { class: "legend" },
    h("span", {}, h("i", { class: "swatch fill-generating" }), `${t("generating")} ${duration(row.generation_s)}`),
    h("span", {}, h("i", { class: "swatch fill-waiting" }), `${t("waiting for an API")} ${duration(row.api_s)}`)));
}

/** The whole tree, a line per step, indented at every fork. */
function outline(row, detail) {
  const lines = [];
  const add = (trajectory, depth) => {
    for (const step of trajectory.steps) {
      const number = lines.length + 1;
      const line = h("a", { href: `#${encodeURIComponent(row.key)}/${number}` }, h("span", { class: "muted" }, number),
        step.action || h("i", {}, t("thought")),
        codeBadge(step, false));
      line.style.paddingLeft = `${8 + 18 * depth}px`;
      lines.push(line);
    }
    for (const branch of trajectory.branches || []) add(branch, depth + 1);
  };
  detail.trajectories.forEach((trajectory) => add(trajectory, 0));
  return h("details", { class: "fold", open: true }, h("summary", {}, `${t("Outline")} · ${count(lines.length, "step")}`),
    h("nav", { class: "outline" }, lines));
}
