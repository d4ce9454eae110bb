// Starts the page and follows its address: `#` the overview, `#<query>` a query, `#<query>/<step>` one of its steps.

const report = JSON.parse(byId("report-data").textContent);
const trajectories = new Trajectories(report);
const asked = readState();
readTheme(asked);
readLanguage(asked);
const table = makeTable(report, trajectories);
let overviewScroll = 0;
draw();

/** Everything but the rows and the query that is open, in the reader's language. */
function draw() {
  translatePage();
  showOverview(report);
}

/** The row and step number that the address names; the row is undefined on the overview. */
function addressed() {
  const address = location.hash.slice(1);
  const slash = address.lastIndexOf("/");
  const isStep = slash > 0 && /^[A-Z]?\d+$/.test(address.slice(slash + 1));
  let key = isStep ? address.slice(0, slash) : address;
  try {
    key = decodeURIComponent(key);
  } catch {
    // A stray % in a hand-written address: taken as it is.
  }
  return { key, step: isStep ? address.slice(slash + 1) : null, row: report.rows.find((row) => row.key === key) };
}

async function follow() {
  const { key, step, row } = addressed();
  const overview = byId("overview");
  const page = byId("query");
  if (!row) {
    const left = page.hidden ? null : report.rows.find((each) => each.key === page.dataset.key);
    page.hidden = true;
    overview.hidden = false;
    document.title = `${report.title} · ToolGen run`;
    scrollTo(0, overviewScroll);
    if (left) (table.linkOf(left) || table.search).focus({ preventScroll: true });
    if (key) {
      byId("notice").hidden = false;
      byId("notice").textContent = t("There is no query {key} in this report.", { key });
    }
    return;
  }
  if (page.dataset.key !== row.key || page.hidden) {
    if (!overview.hidden) overviewScroll = scrollY;
    const detail = await trajectories.of(row);
    if (addressed().row !== row) return; // the reader has gone on meanwhile
    drawQuery(page, row, detail, neighboursOf(row));
    page.dataset.key = row.key;
    overview.hidden = true;
    page.hidden = false;
    document.title = `${row.key} · ${report.title}`;
    scrollTo(0, 0);
    page.querySelector(".question").focus({ preventScroll: true });
  }
  if (step) showStep(step);
}

function redrawQuery() {
  byId("query").dataset.key = "";
  follow();
}

function neighboursOf(row) {
  const found = table.found;
  const position = found.indexOf(row);
  if (position < 0) return { before: null, after: null, position: null, total: found.length };
  return { before: found[position - 1], after: found[position + 1], position, total: found.length };
}

function showStep(number) {
  for (const element of document.querySelectorAll(".step.is-target")) element.classList.remove("is-target");
  const element = byId(`step-${number}`);
  if (!element) return;
  for (let fold = element.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  element.classList.add("is-target");
  element.scrollIntoView({ block: "start" });
}

function onKey(event) {
  const isTyping = event.target.closest("input, select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { row } = addressed();
  if (event.key === "Escape" && row) location.hash = "";
  else if (isTyping) return;
  else if (event.key === "/" && !row) {
    event.preventDefault();
    table.search.focus();
  } else if (row && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
    const { before, after } = neighboursOf(row);
    const next = event.key === "ArrowLeft" ? before : after;
    if (next) location.hash = encodeURIComponent(next.key);
  }
}

listenToChoices(() => {
  draw();
  table.translate();
  table.update();
  redrawQuery();
});
addEventListener("hashchange", follow);
addEventListener("keydown", onKey);
follow().then(() => (document.documentElement.dataset.readyMs = Math.round(performance.now())));
