// One query: what the model thought, called and saw, step by step, with forks where a search tried several ways.

const CODES = {
  0: "reply", 1: "no such function", 2: "bad arguments for Finish", 3: "final answer", 4: "gave up", 5: "timeout",
  6: "API not working", 7: "unauthorized", 8: "not subscribed", 9: "too many requests", 10: "rate limit",
  11: "error message", 12: "request invalid",
};

// The offline API server's reply to a call that its cache lacks.
const NOT_RECORDED = '{"error": "No response is recorded for this request.", "response": ""}';

/** The details of all queries, unpacked a block at a time when they are first asked for. */
class Trajectories {
  constructor(report) {
    this.report = report;
    this.blocks = new Map();
    this.texts = null;
  }

  async of(row) {
    const size = this.report.queries_per_block;
    const number = Math.floor(row.position / size);
    if (!this.blocks.has(number)) this.blocks.set(number, unpack(this.report.blocks[number]));
    return (await this.blocks.get(number))[row.position % size];
  }

  /** Everything that is in each query's steps, in lower case, by position. */
  async allTexts() {
    if (!this.texts) this.texts = await Promise.all(this.report.rows.map(async (row) => textOf(await this.of(row))));
    return this.texts;
  }
}

async function unpack(block) {
  const bytes = Uint8Array.from(atob(block), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

function* stepsOf(trajectory) {
  yield* trajectory.steps;
  for (const branch of trajectory.branches || []) yield* stepsOf(branch);
}

function textOf(detail) {
  const steps = detail.trajectories.flatMap((trajectory) => [...stepsOf(trajectory)]);
  const parts = steps.flatMap((step) => [step.thought, step.action, step.arguments, step.observation]);
  return [detail.final_answer, detail.error, detail.traceback, ...parts].filter(Boolean).join("\n").toLowerCase();
}

/** Draw `row` into `container`. `neighbours` are the rows before and after it in the table as it is filtered. */
function drawQuery(container, row, detail, neighbours) {
  const numbered = { next: 1 };
  const several = detail.trajectories.length > 1;
  const hasForks = detail.trajectories.some((trajectory) => trajectory.branches);
  const parts = detail.trajectories.map((trajectory, position) => {
    const body = drawTrajectory(trajectory, numbered);
    const title = `Try ${position + 1} of ${detail.trajectories.length}`;
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

function crumbs(row, { before, after, position, total }) {
  const link = (target, label) => h("a", {
    class: "ghost", href: target ? `#${encodeURIComponent(target.key)}` : null, "aria-disabled": target ? null : "true",
  }, label);
  const where = position === null ? "" : `${NUMBER.format(position + 1)} of ${NUMBER.format(total)}`;
  return h("nav", { class: "crumbs" },
    h("a", { class: "ghost", href: "#" }, t("← All queries")), h("span", { class: "where" }, where),
    link(before, t("Previous")), link(after, t("Next")),
    copyButton(t("Copy link"), () => location.href.replace(/\/\d+$/, ""), { class: "ghost" }),
    copyButton(t("Copy query"), row.query, { class: "ghost" }));
}

function meta(row) {
  const facts = [
    row.method,
    row.tries > 1 && `${row.tries} tries`,
    count(row.steps, "step"),
    count(row.calls, "API call"),
    row.tokens !== null && count(row.tokens, "token"),
    row.seconds !== null && duration(row.seconds),
    row.attempts > 1 && `begun ${row.attempts} times`,
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
      title: `step ${span.number}: ${STATES.find(([state]) => state === span.state)[1]}, ${duration(span.seconds)}`,
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
  return h("details", { class: "fold", open: true }, h("summary", {}, `Outline · ${count(lines.length, "step")}`),
    h("nav", { class: "outline" }, lines));
}

/** How a step ended. To the contract an API's own words of an error are a reply, code 0; to a reader they are not. */
function codeBadge(step, withNumber) {
  const { code } = step;
  if (code === undefined) return null;
  const isMissed = code === 0 && step.observation === NOT_RECORDED;
  const isComplaint = code === 0 && step.observation !== undefined && Boolean(parsed(step.observation)?.error);
  const tone = code === 4 || isComplaint ? "up" : code === 0 || code === 3 ? "ok" : "bad";
  const label = t(isMissed ? "not recorded" : isComplaint ? "reply with an error" : CODES[code] || "status");
  return h("span", { class: `badge code-${tone}`, title: `status code ${code}` }, withNumber ? `${code} · ${label}` : label);
}

function problemPanel(detail, row) {
  return h("div", { class: "panel problem" }, h("h3", {}, t("Why there is no answer")), h("p", { class: "prose" }, detail.error),
    detail.traceback && h("details", {}, h("summary", {}, t("Traceback")), h("pre", { class: "block" }, detail.traceback)),
    row.steps > 0 && h("p", { class: "hint" }, t("The steps below are what its last try had done."),
      hasTexts(detail) ? "" : ` ${t("Their texts are not kept when a process is killed.")}`));
}

function hasTexts(detail) {
  return detail.trajectories.some((trajectory) => [...stepsOf(trajectory)].some((step) => step.arguments || step.thought));
}

function drawTrajectory(trajectory, numbered) {
  const steps = trajectory.steps.map((step) => drawStep(step, numbered.next++));
  const branches = trajectory.branches || [];
  const someAnswer = branches.some(hasAnswer);
  return h("div", { class: "steps" }, steps, branches.map((branch, position) => {
    const body = drawTrajectory(branch, numbered);
    return drawFold(`Branch ${position + 1} of ${branches.length}`, branch, body, "is-branch", someAnswer ? hasAnswer(branch) : position === 0);
  }));
}

function drawFold(title, trajectory, body, kind, isOpen) {
  const end = ending(trajectory);
  return h("details", { class: `fold ${kind}${end === "answered" ? " has-answer" : ""}`, open: isOpen },
    h("summary", {}, `${title} · ${count([...stepsOf(trajectory)].length, "step")}`, badge(end)),
    h("div", { class: "fold-body" }, body));
}

function hasAnswer(trajectory) {
  return ending(trajectory) === "answered";
}

function ending(trajectory) {
  const codes = new Set([...stepsOf(trajectory)].map((step) => step.code));
  return codes.has(3) ? "answered" : codes.has(4) ? "gave_up" : "no_answer";
}

function drawStep(step, number) {
  const { code, generation } = step;
  return h("article", { class: "step", id: `step-${number}` },
    h("div", { class: "step-number" }, String(number)),
    h("div", { class: "step-body" },
      step.thought && h("p", { class: "prose" }, step.thought),
      h("div", { class: "step-head" },
        step.action !== undefined && h("span", { class: "action" }, step.action || t("(no function)")),
        codeBadge(step, true),
        step.pruned && code !== 4 && h("span", { class: "badge code-cut" }, t("stopped here")),
        h("span", { class: "step-cost" },
          generation && h("span", { title: generation.prompt_tokens ? `${NUMBER.format(generation.prompt_tokens)} tokens in the longest prompt` : null },
            h("i", { class: "fill-generating" }), duration(generation.seconds), generation.tokens === null ? null : ` · ${count(generation.tokens, "token")}`),
          step.call && step.action !== "Finish" && h("span", {}, h("i", { class: "fill-waiting" }), duration(step.call.seconds)))),
      step.arguments !== undefined && said("Arguments", step.arguments),
      step.observation !== undefined && said("Observation", step.observation)));
}
