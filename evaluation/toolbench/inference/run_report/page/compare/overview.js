// What differs between the two runs, in numbers with their uncertainty: over a set, and set by set.

const SHARES = ["solved", "answered", "score"];
const MEASURES = [
  ["solved", "Solved"], ["score", "Score"], ["answered", "Answered"], ["steps", "Steps"], ["calls", "API calls"], ["errors", "Errors"], ["missed", "Not recorded"],
  ["tokens", "Tokens"], ["seconds", "Time"],
];

function makeTable(report, trajectories) {
  readPair(report, readState());
  return new PairTable(report, trajectories);
}

function showOverview(report) {
  byId("run-title").textContent = report.runs.length > 3 ? t("Runs") : report.title;
  byId("run-facts").textContent = dateTime(report.built);
  byId("level").textContent = t("{level} interval", { level: `${100 * report.level}%` });
  drawPairChoice(report);
  drawRuns(report);
  drawSetChoice(report);
  drawTests(report);
  drawSets(report);
}

/** Look at another pair or set: everything that depends on it is drawn again, the controls themselves stay. */
function choose(change) {
  Object.assign(pair, change);
  keepState(pairState());
  for (const button of byId("set-choice").children) button.setAttribute("aria-pressed", String(button.dataset.set === pair.set));
  drawRuns(report);
  drawTests(report);
  drawSets(report);
  table.translate();
  table.update();
  if (!byId("query").hidden) redrawQuery();
}

function drawPairChoice(report) {
  byId("pair-choice").hidden = report.runs.length < 3;
  for (const [side, other] of [["left", "right"], ["right", "left"]]) {
    const select = byId(`${side}-run`);
    select.replaceChildren(...report.runs.map((run, i) => h("option", { value: i }, `${letter(i)} ${run.name}`)));
    select.value = pair[side];
    select.setAttribute("aria-label", `${t(side === "left" ? "Compare" : "with")}`);
    select.onchange = () => {
      const chosen = Number(select.value);
      choose(chosen === pair[other] ? { [side]: chosen, [other]: pair[side] } : { [side]: chosen });
      byId(`${other}-run`).value = pair[other];
    };
  }
}

function drawRuns(report) {
  byId("runs").replaceChildren(...report.runs.map((run, i) => h("div", { class: "tile" },
    h("dt", {}, runTag(i), " ", run.method),
    h("dd", { class: "value run-name" }, run.name),
    h("dd", { class: "note" }, [
      `${NUMBER.format(run.queries)} ${t("Queries").toLowerCase()}`, run.model_path,
      run.simulated ? t("{share} of API calls simulated", { share: simulatedShare(run) }) : "",
      run.judged_sets ? [run.judges.join(", "), t("{n} verdicts an answer", { n: run.repeats })].filter(Boolean).join(", ") : t("not judged"),
    ].filter(Boolean).join(" · ")))));
}

function drawSetChoice(report) {
  byId("set-choice").hidden = report.sets.length < 2;
  byId("set-choice").replaceChildren(...[ALL_SETS, ...report.sets].map((set) => h("button", {
    type: "button", "data-set": set, "aria-pressed": String(pair.set === set), onclick: () => choose({ set }),
  }, set === ALL_SETS ? t("All sets") : set)));
}

function drawTests(report) {
  const tests = testsOf(report, pair.set);
  byId("left-head").replaceChildren(runTag(pair.left));
  byId("right-head").replaceChildren(runTag(pair.right));
  const rows = tests ? MEASURES.map(([key, label]) => measureRow(key, label, tests.means[key] || tests[key])) : [];
  byId("measures").replaceChildren(...rows.filter(Boolean));
  byId("test-notes").replaceChildren(...notesOf(report, tests).map((note) => h("p", { class: "hint" }, note)));
}

function measureRow(key, label, test) {
  if (!test) return null;
  const isLarge = Math.max(test.left, test.right) >= 100;
  const change = (value) => changeText(key, isLarge ? Math.round(value) : value, isLarge ? 0 : 2);
  const differs = test.low !== null && (test.low > 0 || test.high < 0);
  return h("tr", {},
    h("th", { scope: "row" }, t(label)),
    h("td", { class: "number", "data-name": letter(pair.left) }, valueText(key, test.left)),
    h("td", { class: "number", "data-name": letter(pair.right) }, valueText(key, test.right)),
    h("td", { class: "number", "data-name": t("Difference") }, h(differs ? "b" : "span", {}, change(test.right - test.left))),
    h("td", { class: "number", "data-name": t("{level} interval", { level: `${100 * report.level}%` }) },
      test.low === null ? "–" : `${change(test.low)} … ${change(test.high)}`),
    h("td", { class: "whisker" }, test.low === null ? null : whisker(test)),
    h("td", { class: "test" }, test.p_value === undefined ? null : h("span", { title: t("exact McNemar test") }, discordText(test))));
}

function discordText(test) {
  const only = (run, number) => `${t("only {run}", { run: letter(run) })} ${NUMBER.format(number)}`;
  return `${only(pair.left, test.left_only)} · ${only(pair.right, test.right_only)} · p ${pText(test.p_value)}`;
}

function pText(p) {
  return p < 0.0001 ? "< 0.0001" : `= ${p >= 0.9995 ? "1" : p.toPrecision(p < 0.01 ? 1 : 2)}`;
}

function valueText(key, value, digits = 2) {
  if (SHARES.includes(key)) return `${(100 * value).toFixed(1)}%`;
  if (key === "seconds") return duration(value);
  return value >= 100 ? NUMBER.format(Math.round(value)) : value.toFixed(digits);
}

function changeText(key, change, digits) {
  const sign = change > 0 ? "+" : change < 0 ? "−" : "";
  const size = Math.abs(change);
  return sign + (SHARES.includes(key) ? `${(100 * size).toFixed(1)} ${t("pp")}` : valueText(key, size, digits));
}

/** The interval as a line over the zero that it has or has not in it. */
function whisker({ left, right, low, high }) {
  const most = Math.max(Math.abs(low), Math.abs(high)) || 1;
  const x = (value) => (50 + (46 * value) / most).toFixed(2);
  return svg("svg", { viewBox: "0 0 100 12", "aria-hidden": "true" },
    svg("line", { x1: 50, x2: 50, y1: 0, y2: 12, class: "zero" }),
    svg("line", { x1: x(low), x2: x(high), y1: 6, y2: 6, class: "range" }),
    svg("circle", { cx: x(right - left), cy: 6, r: 3 }));
}

function notesOf(report, tests) {
  const [left, right] = [report.runs[pair.left], report.runs[pair.right]];
  const rows = report.rows.filter(isInSet);
  const alone = rows.filter((row) => !row.cells[pair.left] !== !row.cells[pair.right]).length;
  const common = tests ? tests.common : 0;
  const numPairs = (report.runs.length * (report.runs.length - 1)) / 2;
  return [
    t("{n} common queries. Rates and means of these; a difference is {right} minus {left}. Intervals: percentile bootstrap over queries, {resamples} resamples, fixed seed.",
      { n: NUMBER.format(common), left: letter(pair.left), right: letter(pair.right), resamples: NUMBER.format(report.resamples) }),
    tests?.solved && tests.solved.num_queries < common && t("{n} of them are judged in both.", { n: NUMBER.format(tests.solved.num_queries) }),
    alone > 0 && t("Queries that only one of the two has, which are in no test: {n}.", { n: NUMBER.format(alone) }),
    tests?.solved && left.repeats !== right.repeats && t(
      "The runs have {left} and {right} verdicts an answer: scores of unequal numbers of repeats are less comparable.", { left: left.repeats, right: right.repeats }),
    tests?.solved && left.judges.length > 0 && right.judges.length > 0 && left.judges.join() !== right.judges.join() && t(
      "The runs were judged by different models ({left}; {right}): their verdicts are not comparable.", { left: left.judges.join(", "), right: right.judges.join(", ") }),
    simulatedShare(left) !== simulatedShare(right) && t(
      "Of the API calls {left} and {right} were answered by a simulator and not from recorded replies: the runs met different worlds.",
      { left: simulatedShare(left), right: simulatedShare(right) }),
    left.simulated > 0 && right.simulated > 0 && left.simulator !== right.simulator && t(
      "The runs had different simulators ({left}; {right}).", { left: left.simulator || "?", right: right.simulator || "?" }),
    numPairs > 1 && t("{n} pairs of runs can be compared here; p-values are not corrected for that.", { n: numPairs }),
  ].filter(Boolean);
}

function simulatedShare(run) {
  return `${run.calls ? ((100 * run.simulated) / run.calls).toFixed(1) : "0.0"}%`;
}

function isInSet(row) {
  return pair.set === ALL_SETS || row.set === pair.set;
}

function drawSets(report) {
  byId("sets-section").hidden = report.sets.length < 2;
  const [a, b] = [letter(pair.left), letter(pair.right)];
  const main = testsOf(report, ALL_SETS)?.solved ? "solved" : "answered";
  const heads = ["Set", "Queries", `${t(main === "solved" ? "Solved" : "Answered")} ${a} · ${b}`, "Difference", "p", `${t("Steps")} ${a} · ${b}`,
    `${t("Tokens")} ${a} · ${b}`, `${t("Time")} ${a} · ${b}`];
  byId("sets-head").replaceChildren(...heads.map((head, i) => h("th", { scope: "col", class: i ? "number" : null }, t(head))));
  byId("sets-rows").replaceChildren(...[...report.sets, ALL_SETS].map((set) => setRow(report, set, main, heads)));
}

function setRow(report, set, main, heads) {
  const tests = testsOf(report, set);
  const name = h("th", { scope: "row" }, set === ALL_SETS ? t("All sets") : set);
  if (!tests) return h("tr", {}, name, h("td", { class: "number", colspan: heads.length - 1 }, t("not in this run")));
  const share = tests[main];
  const both = (key, test) => (test ? `${valueText(key, test.left)} · ${valueText(key, test.right)}` : "–");
  const interval = share && share.low !== null ? ` (${changeText(main, share.low)} … ${changeText(main, share.high)})` : "";
  const cells = [
    NUMBER.format(tests.common), both(main, share), share ? changeText(main, share.right - share.left) + interval : "–",
    share ? pText(share.p_value).replace("= ", "") : "–", both("steps", tests.means.steps), both("tokens", tests.means.tokens), both("seconds", tests.means.seconds),
  ];
  return h("tr", {}, name, cells.map((cell, i) => h("td", { class: "number", "data-name": t(heads[i + 1]) }, cell)));
}
