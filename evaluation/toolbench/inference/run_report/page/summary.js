// What the run was and what came of it, in a few numbers; the record behind them folded away.

function showOverview(report) {
  showSummary(report);
  showTimelines(report);
  showHistograms(report.rows);
}

function showSummary(report) {
  const { summary } = report;
  const notBegun = Math.max(0, summary.left - (summary.outcomes.unfinished || 0)); // these have no row
  const total = report.rows.length + notBegun;
  const wall = summary.serving_s; // what the rates are over
  byId("run-title").textContent = report.title;
  byId("run-facts").textContent = runFacts(report, wall);
  drawOutcomeBar([...outcomesOf(report), ...(notBegun ? [["not_begun", notBegun]] : [])], total);
  const answered = summary.outcomes.answered || 0;
  const api = summary.api;
  const tiles = [
    ["Queries", NUMBER.format(total), notBegun ? t("{n} not begun", { n: NUMBER.format(notBegun) }) : t("in this report")],
    ["Answered", percent(answered, total), t("with a final answer, which need not be right")],
  ];
  if (summary.has_events) {
    tiles.push(
      ["Time", duration(wall), rate(summary.rates.queries_per_min, "queries/min")],
      ["Per query", duration(summary.median_query_s || null), t("median · p90 {p90}", { p90: duration(summary.p90_query_s || null) })],
      ["API calls", NUMBER.format(api.calls), [
        t("{errors} errors · {missed} not recorded", { errors: percent(api.errors, api.calls), missed: percent(api.not_recorded, api.calls) }),
        api.simulated ? t("{share} simulated", { share: percent(api.simulated, api.calls) }) : "",
      ].filter(Boolean).join(" · ")],
    );
  }
  if (summary.tokens) {
    const read = t("{n} read", { n: shortNumber(summary.prompt_tokens) });
    tiles.push(["Tokens generated", shortNumber(summary.tokens), [rate(summary.rates.tokens_per_s, "tokens/s"), read].filter(Boolean).join(" · ")]);
  }
  byId("tiles").replaceChildren(...tiles.map(([name, value, note]) =>
    h("div", { class: "tile" }, h("dt", {}, t(name)), h("dd", { class: "value" }, value), h("dd", { class: "note" }, note)),
  ));
  showNotice(report);
  showRecord(report);
}

function rate(value, unit) {
  return value ? `${value < 100 ? value.toFixed(1) : shortNumber(value)} ${t(unit)}` : "";
}

function drawOutcomeBar(outcomes, total) {
  byId("outcome-bar").replaceChildren(...outcomes.map(([outcome, number]) => {
    const part = h("i", { class: `tone-${outcome}` });
    part.style.flexGrow = number;
    return part;
  }));
  byId("outcome-legend").replaceChildren(...outcomes.map(([outcome, number]) =>
    h("span", { class: `tone-${outcome}` }, h("i", { class: "swatch" }), `${t(OUTCOMES[outcome])} ${NUMBER.format(number)}`,
      h("span", { class: "muted" }, percent(number, total)))));
}

function outcomesOf(report) {
  return Object.keys(OUTCOMES).map((outcome) => [outcome, report.summary.outcomes[outcome] || 0]).filter(([, number]) => number);
}

const FORMATS = ["weights", "kv_cache"]; // that are not as the checkpoint has them

function runFacts(report, wall) {
  const { run } = report;
  const configuration = run ? run.configuration : {};
  return [
    configuration.model_path || null,
    configuration.method || null,
    ...FORMATS.filter((name) => (configuration[name] || "auto") !== "auto").map((name) => `${name} ${configuration[name]}`),
    run ? t(run.status) : null,
    run ? dateTime(run.started) : null,
    wall ? duration(wall) : null,
  ].filter(Boolean).join(" · ");
}

function showNotice(report) {
  const notes = [];
  if (!report.summary.has_events) notes.push(t("No event log beside these answers, so there are no timings and no timeline."));
  if (report.summary.skipped_lines) {
    notes.push(t("{lines} of the event log could not be read and were left out.", { lines: count(report.summary.skipped_lines, "line") }));
  }
  const { api, cut_texts: cut, misses, simulated } = report.summary;
  if (cut) {
    const { num_cut: n, num_texts: texts } = report.summary;
    notes.push(sentence(cut, "texts cut off", { n: NUMBER.format(n), texts: NUMBER.format(texts), share: percent(n, texts) }));
  }
  if (simulated) {
    const [n, calls] = [NUMBER.format(api.simulated), NUMBER.format(api.calls)];
    notes.push(sentence(simulated, "calls simulated", { n, calls, share: percent(api.simulated, api.calls) }));
  }
  if (misses) {
    const [n, calls] = [NUMBER.format(api.not_recorded), NUMBER.format(api.calls)];
    notes.push(sentence(misses, "calls without a reply", { n, calls, share: percent(api.not_recorded, api.calls) }));
  }
  byId("notice").hidden = !notes.length;
  byId("notice").textContent = notes.join(" ");
}

function showRecord(report) {
  const { run, summary } = report;
  const parts = [];
  const api = summary.api;
  if (run) {
    const changed = new Set(run.changed);
    const settings = Object.entries(run.configuration);
    parts.push(fold("Settings that differ from the defaults", settings.filter(([name]) => changed.has(name)), true));
    parts.push(fold("All settings", settings));
    parts.push(fold("GPUs and layout", [
      ...run.gpus.map((gpu) => [gpu.cuda_index === null ? t("unused") : `cuda:${gpu.cuda_index}`, `${gpu.name}, ${gib(gpu.total_bytes)}, ${gpu.uuid}`]),
      ...run.layout.map((replica) => [t("replica {n}", { n: replica.replica }), layoutText(replica, run)]),
      ...(run.layout_reason ? [[t("reason"), run.layout_reason]] : []),
    ]));
    parts.push(fold("Versions, seeds and times", [
      ...Object.entries(run.versions),
      ...Object.entries(run.seeds).map(([name, value]) => [t("seed {name}", { name }), value]),
      ...Object.entries(run.timings_s).map(([name, value]) => [t(name), duration(value)]),
    ]));
    parts.push(fold("Failed queries", run.failures.map((each) => [queryLink(each.query_id, report), `${each.type}: ${each.message}`])));
  }
  if (api.calls) {
    parts.push(fold("Errors by tool", summary.tools.map((tool) => [tool.name, t("{calls} calls, {errors} errors, {missed} not recorded", {
      calls: NUMBER.format(tool.calls), errors: NUMBER.format(tool.errors), missed: NUMBER.format(tool.missed),
    })])));
    parts.push(fold("Status of API calls", [
      ...Object.entries(api.by_code).map(([code, number]) => [
        `${code} ${t(CODES[code] || "")}`, `${NUMBER.format(number)} (${percent(number, api.calls)})`,
      ]),
      ...(api.hits + api.simulated + api.not_recorded ? [
        [t("in the cache"), t("{hits} ({share}), {fuzzy} of them fuzzy", {
          hits: NUMBER.format(api.hits), share: percent(api.hits, api.calls), fuzzy: NUMBER.format(api.fuzzy_hits),
        })],
        [t("simulated"), `${NUMBER.format(api.simulated)} (${percent(api.simulated, api.calls)})`],
        [t("not recorded"), `${NUMBER.format(api.not_recorded)} (${percent(api.not_recorded, api.calls)})`],
      ] : []),
      [t("time"), t("median {median}, 95% within {p95}, longest {max}", {
        median: duration(api.median_s), p95: duration(api.p95_s), max: duration(api.max_s),
      })],
    ]));
  }
  const shown = parts.filter(Boolean);
  byId("record").replaceChildren(...shown);
  byId("record").closest("section").hidden = !shown.length;
}

function fold(name, entries, isOpen) {
  if (!entries.length) return null;
  return h("details", { open: Boolean(isOpen) }, h("summary", {}, h("b", {}, t(name)), ` ${NUMBER.format(entries.length)}`),
    h("dl", { class: "facts" }, entries.flatMap(([key, value]) => [
      h("dt", {}, key), h("dd", {}, typeof value === "string" ? value : JSON.stringify(value)),
    ])));
}

/** The id, leading to the query where the report has it. */
function queryLink(id, report) {
  const row = report.rows.find((each) => each.id === id && each.outcome === "failed");
  return row ? h("a", { href: `#${encodeURIComponent(row.key)}` }, id) : id;
}

function layoutText(replica, run) {
  const index = new Map(run.gpus.filter((gpu) => gpu.cuda_index !== null).map((gpu) => [gpu.uuid, `cuda:${gpu.cuda_index}`]));
  const where = replica.gpus.map((uuid) => index.get(uuid) || uuid).join(", ") || "CPU";
  return `${where}; ${t("{what} at once", { what: count(replica.num_conversations, "conversation") })}`;
}

function percent(part, whole) {
  return whole ? `${((100 * part) / whole).toFixed(part === 0 || part === whole ? 0 : 1)}%` : "–";
}
