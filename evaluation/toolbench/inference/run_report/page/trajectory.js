// What the model thought, called and saw, step by step, with forks where a search tried several ways.

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
    if (!this.texts) this.texts = await Promise.all(this.report.rows.map(async (row) => [await this.of(row)].flat().filter(Boolean).map(textOf).join("\n")));
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

function crumbs(row, { before, after, position, total }) {
  const link = (target, label) => h("a", {
    class: "ghost", href: target ? `#${encodeURIComponent(target.key)}` : null, "aria-disabled": target ? null : "true",
  }, label);
  const where = position === null ? "" : t("{n} of {all}", { n: NUMBER.format(position + 1), all: NUMBER.format(total) });
  return h("nav", { class: "crumbs" },
    h("a", { class: "ghost", href: "#" }, t("← All queries")), h("span", { class: "where" }, where),
    link(before, t("Previous")), link(after, t("Next")),
    copyButton(t("Copy link"), () => location.href.replace(/\/\d+$/, ""), { class: "ghost" }),
    copyButton(t("Copy query"), row.query, { class: "ghost" }));
}

/** How a step ended. To the contract an API's own words of an error are a reply, code 0; to a reader they are not. */
function codeBadge(step, withNumber) {
  const { code } = step;
  if (code === undefined) return null;
  const isMissed = code === 0 && step.observation === NOT_RECORDED;
  const isComplaint = code === 0 && step.observation !== undefined && Boolean(parsed(step.observation)?.error);
  const tone = code === 4 || isComplaint ? "up" : code === 0 || code === 3 ? "ok" : "bad";
  const label = t(isMissed ? "not recorded" : isComplaint ? "reply with an error" : CODES[code] || "status");
  return h("span", { class: `badge code-${tone}`, title: t("status code {n}", { n: code }) }, withNumber ? `${code} · ${label}` : label);
}

function problemPanel(detail, row) {
  return h("div", { class: "panel problem" }, h("h3", {}, t("Why there is no answer")), h("p", { class: "prose" }, reasonOf(row, detail.error)),
    detail.traceback && h("details", {}, h("summary", {}, t("Traceback")), h("pre", { class: "block" }, detail.traceback)),
    row.steps > 0 && h("p", { class: "hint" }, t("The steps below are what its last try had done."),
      hasTexts(detail) ? "" : ` ${t("Their texts are not kept when a process is killed.")}`));
}

function hasTexts(detail) {
  return detail.trajectories.some((trajectory) => [...stepsOf(trajectory)].some((step) => step.arguments || step.thought));
}

function drawTrajectory(trajectory, numbered) {
  const steps = trajectory.steps.map((step) => drawStep(step, `${numbered.side || ""}${numbered.next++}`));
  const branches = trajectory.branches || [];
  const someAnswer = branches.some(hasAnswer);
  return h("div", { class: "steps" }, steps, branches.map((branch, position) => {
    const body = drawTrajectory(branch, numbered);
    return drawFold(t("Branch {n} of {all}", { n: position + 1, all: branches.length }), branch, body, "is-branch", someAnswer ? hasAnswer(branch) : position === 0);
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
    h("div", { class: "step-number" }, number),
    h("div", { class: "step-body" },
      step.thought && h("p", { class: "prose" }, step.thought),
      h("div", { class: "step-head" },
        step.action !== undefined && h("span", { class: "action" }, step.action || t("(no function)")),
        codeBadge(step, true),
        step.pruned && code !== 4 && h("span", { class: "badge code-cut" }, t("stopped here")),
        h("span", { class: "step-cost" },
          generation && h("span", { title: generation.prompt_tokens ? t("{n} tokens in the longest prompt", { n: NUMBER.format(generation.prompt_tokens) }) : null },
            h("i", { class: "fill-generating" }), duration(generation.seconds), generation.tokens === null ? null : ` · ${count(generation.tokens, "token")}`),
          step.call && step.action !== "Finish" && h("span", {}, h("i", { class: "fill-waiting" }), duration(step.call.seconds)))),
      step.arguments !== undefined && said("Arguments", step.arguments),
      step.observation !== undefined && said("Observation", step.observation)));
}
