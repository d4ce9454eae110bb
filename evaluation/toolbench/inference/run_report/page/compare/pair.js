// Which two runs are compared, which set is looked at, and what is known of the two together.

const ALL_SETS = "*";
const pair = { left: 0, right: 1, set: ALL_SETS };

function letter(run) {
  return String.fromCharCode(65 + run);
}

function runTag(run) {
  return h("b", { class: `run-tag ${run === pair.left ? "is-left" : run === pair.right ? "is-right" : ""}` }, letter(run));
}

function readPair(report, state) {
  const asked = ["left", "right"].map((side) => (state[side] || "").charCodeAt(0) - 65);
  const areRuns = asked.every((run) => run >= 0 && run < report.runs.length) && asked[0] !== asked[1];
  if (areRuns) [pair.left, pair.right] = asked;
  if (report.sets.includes(state.set)) pair.set = state.set;
}

function pairState() {
  const isFirst = pair.left === 0 && pair.right === 1;
  return {
    left: isFirst ? "" : letter(pair.left), right: isFirst ? "" : letter(pair.right), set: pair.set === ALL_SETS ? "" : pair.set,
  };
}

/** The tests of the two runs over a set, turned round if they were made the other way; undefined without a query. */
function testsOf(report, set) {
  const [low, high] = [pair.left, pair.right].sort((a, b) => a - b);
  const found = report.pairs[`${low}-${high}`][set];
  if (!found || pair.left === low) return found;
  const turned = ([key, test]) => [key, test && turnedRound(test)];
  return { ...found, solved: found.solved && turnedRound(found.solved), answered: found.answered && turnedRound(found.answered),
    means: Object.fromEntries(Object.entries(found.means).map(turned)) };
}

function turnedRound(test) {
  const low = test.high === null ? null : -test.high;
  const high = test.low === null ? null : -test.low;
  return { ...test, left: test.right, right: test.left, low, high, left_only: test.right_only, right_only: test.left_only };
}

/** The first step in which two runs of a query differ, and in what; null where they never do, undefined if not known. */
function parting(row, left = pair.left, right = pair.right) {
  const [a, b] = [row.cells[left]?.path, row.cells[right]?.path];
  if (!a || !b) return undefined;
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    if (i >= a.length || i >= b.length) return { step: i + 1, how: "one goes on" };
    const [[tool, call, reply], [otherTool, otherCall, otherReply]] = [a[i], b[i]];
    if (tool !== otherTool) return { step: i + 1, how: "other tool" };
    if (call !== otherCall) return { step: i + 1, how: row.tools[tool] === "Finish" ? "other answer" : "other arguments" };
    if (reply !== otherReply) return { step: i + 1, how: "other reply" };
  }
  return null;
}

function toolsOf(row, cell) {
  return (cell?.path || []).map(([tool]) => row.tools[tool]).filter((tool) => tool && tool !== "Finish");
}
