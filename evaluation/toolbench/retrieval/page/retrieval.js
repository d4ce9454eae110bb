// The page of a retrieval evaluation: the numbers of all sets, and each query with its relevant tools and predictions.

const report = JSON.parse(byId("report-data").textContent);
const QUERIES_AT_ONCE = 60;
const UPSTREAM = ["ndcg@1", "ndcg@3", "ndcg@5"];
const CORRECTED = ["ndcg@1", "ndcg@3", "ndcg@5", "recall@1", "recall@3", "recall@5", "recall@10", "mrr"];

// Halves are rounded as in the table on the terminal.
const PERCENT = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1, roundingMode: "halfEven" });

function percent(value) {
  return value === null || value === undefined ? "–" : PERCENT.format(100 * value);
}

function showNumbers() {
  const heading = (text) => h("th", { scope: "col", class: "number" }, text);
  const number = (...children) => h("td", { class: "number" }, ...children);
  const table = byId("numbers");
  const head = h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("Set")), heading(t("queries")),
    UPSTREAM.map((name) => heading(t("upstream@{n}", { n: name.split("@")[1] }))), CORRECTED.map(heading), heading(t("no tool"))));
  table.replaceChildren(head, h("tbody", {}, report.sets.map((set) => h("tr", {},
    h("td", {}, set.name),
    number(NUMBER.format(set.counts.queries)),
    UPSTREAM.map((name) => number(percent(set.upstream[name]))),
    CORRECTED.map((name) => number(percent(set.corrected[name].mean),
      h("span", { class: "error" }, `±${percent(set.corrected[name].standard_error)}`))),
    number(percent(set.counts["first predictions that are not candidates"] / (set.counts.queries || 1)))))));
}

function facts(entries) {
  return h("dl", { class: "facts" }, entries.flatMap(([name, value]) =>
    [h("dt", {}, name), h("dd", {}, typeof value === "string" ? value : JSON.stringify(value))]));
}

function showRecord() {
  const run = report.run;
  const fold = (name, entries) => entries.length && h("details", {}, h("summary", {}, h("b", {}, name)), facts(entries));
  byId("record").replaceChildren(...[
    fold(t("Model and search"), Object.entries(report.described)),
    ...report.sets.map((set) => fold(t("Counts of {name}", { name: set.name }), Object.entries(set.counts))),
    run && fold(t("Flags"), Object.entries(run.configuration)),
    run && fold(t("Machine"), [...Object.entries(run.versions), ...run.gpus.map((gpu) => [gpu.uuid, gpu.name])]),
    run && fold(t("Failures"), run.failures.map((failure) => [failure.query_id, `${failure.type}: ${failure.message}`])),
  ].filter(Boolean));
  const formats = ["weights", "kv_cache"].filter((name) => report.described[name]).map((name) => `${name} ${report.described[name]}`);
  byId("facts").textContent = [...formats, run && t(run.status), run && dateTime(run.started),
    count(report.sets.reduce((sum, set) => sum + set.counts.queries, 0), "search").replace(/searchs$/, "searches")]
    .filter(Boolean).join(" · ");
}

/** The first place, from 1, of a relevant tool among the ten; 0 without one. */
function firstHit(query) {
  const labels = new Set(query.labels);
  return query.wider.findIndex(([text]) => labels.has(text)) + 1;
}

function queryElement(set, query) {
  const place = firstHit(query);
  const tone = query.problem ? "unfinished" : place ? "answered" : "failed";
  const words = query.problem ? t("not searched for") : place ? t("hit at {n}", { n: place }) : t("no hit");
  const element = h("details", { class: "query" },
    h("summary", {}, h("span", { class: "id" }, String(query.id)), h("span", { class: "text" }, query.text), badge(tone, words)));
  element.addEventListener("toggle", () => {
    if (element.open && element.children.length === 1) element.append(bodyElement(set, query));
  });
  return element;
}

function bodyElement(set, query) {
  const labels = new Set(query.labels);
  const candidates = new Set(set.off_space);
  const placeAmong = (texts, text) => texts.indexOf(text) + 1;
  const wider = query.wider.map(([text]) => text);
  const relevant = [...labels].map((text) => {
    const place = placeAmong(wider, text);
    return h("li", {}, h("span", { class: place ? "name hit" : "name" }, report.texts[text]),
      h("span", { class: "rank" }, place ? t("at {n}", { n: place }) : "–"));
  });
  const predicted = query.wider.map(([text, probability], index) => {
    const five = placeAmong(query.five, text);
    return h("li", { class: candidates.has(text) ? "off" : null },
      h("span", { class: "rank" }, `${index + 1}${five ? ` [${five}]` : ""}`),
      h("span", { class: labels.has(text) ? "name hit" : "name" }, (labels.has(text) ? "✓ " : "") + (report.texts[text] || t("(empty)"))),
      h("span", { class: "probability" }, probability >= 0.0005 ? `${(100 * probability).toFixed(1)} %` : probability.toExponential(0)));
  });
  return h("div", { class: "query-body" },
    query.problem && h("p", { class: "problem" }, query.problem),
    h("div", {}, h("h3", {}, t("Relevant tools")), h("ul", { class: "tools" }, relevant.length ? relevant : h("li", {}, t("none")))),
    h("div", {}, h("h3", {}, t("First ten, with their probabilities")), h("ol", { class: "tools" }, predicted)));
}

const list = {
  set: report.sets[0], found: [], drawn: 0,
  update() {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const misses = byId("misses").checked;
    keepState({
      q: byId("search").value, show: misses ? "misses" : "", set: this.set && this.set !== report.sets[0] ? this.set.name : "",
    });
    this.found = !this.set ? [] : this.set.queries.filter((query) => {
      if (misses && firstHit(query)) return false;
      if (!words.length) return true;
      const texts = [...query.labels, ...query.wider.map(([text]) => text)].map((text) => report.texts[text]);
      const haystack = [query.id, query.text, ...texts].join("\n").toLowerCase();
      return words.every((word) => haystack.includes(word));
    });
    byId("shown").textContent = NUMBER.format(this.found.length);
    byId("queries").replaceChildren();
    this.drawn = 0;
    this.more();
  },
  more() {
    const next = this.found.slice(this.drawn, this.drawn + QUERIES_AT_ONCE);
    byId("queries").append(...next.map((query) => queryElement(this.set, query)));
    this.drawn += next.length;
    if (!this.found.length) byId("queries").replaceChildren(h("p", { class: "empty" }, t("No query matches.")));
  },
};

/** Buttons that choose the set. They stay the elements that they are: whoever pressed one goes on from there. */
function showSets() {
  const buttons = report.sets.map((set) => h("button", { type: "button", onclick: () => choose(set) }, set.name));
  const mark = () => buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(list.set === report.sets[i])));
  const choose = (set) => {
    list.set = set;
    mark();
    list.update();
  };
  mark();
  byId("sets").replaceChildren(...buttons);
}

byId("title").textContent = report.title;
function draw() {
  translatePage();
  showNumbers();
  showRecord();
  showSets();
  list.update();
}

const asked = readState();
readTheme(asked);
readLanguage(asked);
list.set = report.sets.find((set) => set.name === asked.set) || list.set;
byId("search").value = asked.q || "";
byId("misses").checked = asked.show === "misses";
listenToChoices(draw);
byId("search").addEventListener("input", () => list.update());
byId("misses").addEventListener("change", () => list.update());
new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) list.more();
}, { rootMargin: "600px" }).observe(byId("sentinel"));
draw();
document.documentElement.dataset.readyMs = Math.round(performance.now());
