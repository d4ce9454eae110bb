// The timeline: a lane per replica and per GPU over one time axis, read together under one cursor.

const STATES = [
  ["generating", "generating"],
  ["waiting", "waiting for an API"],
  ["other", "between steps"],
];
const TICK_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
const MOST_TICKS = 9;

function showTimelines(report) {
  const timelines = report.timelines.filter((timeline) => timeline.seconds > 0);
  if (!timelines.length) return;
  byId("timeline-section").hidden = false;
  byId("timeline-legend").replaceChildren(...[
    ...STATES.map(([state, label]) => h("span", {}, h("i", { class: `swatch fill-${state}` }), t(label))),
    timelines.some(hasLoading) && h("span", {}, h("i", { class: "swatch fill-loading" }), t("loading")),
    h("span", {}, h("i", { class: "swatch fill-idle" }), t("idle")),
  ].filter(Boolean));
  const buttons = timelines.map((timeline, position) =>
    h("button", { type: "button", onclick: () => choose(position) }, `${position + 1} · ${dateTime(timeline.start)}`),
  );
  byId("run-choice").replaceChildren(...(timelines.length > 1 ? buttons : []));

  function choose(chosen) {
    buttons.forEach((button, position) => button.setAttribute("aria-pressed", String(position === chosen)));
    drawTimeline(byId("timeline"), timelines[chosen], gpuNames(report.run));
  }
  choose(timelines.length - 1);
}

function hasLoading(timeline) {
  return timeline.replicas.some((replica) => replica.loading.some(Boolean));
}

function drawTimeline(container, timeline, names) {
  const lanes = [
    ...timeline.replicas.map(replicaLane),
    ...timeline.memory.map((curve) => memoryLane(curve, names)),
  ];
  const axis = h("div", { class: "axis" });
  const step = TICK_STEPS.find((each) => timeline.seconds / each <= MOST_TICKS) || timeline.seconds / MOST_TICKS;
  for (let at = 0; at <= timeline.seconds * 0.97; at += step) {
    const tick = h("span", {}, clock(at));
    tick.style.left = `${(100 * at) / timeline.seconds}%`;
    axis.append(tick);
  }
  const time = h("div", { class: "lane-value" });
  container.replaceChildren(
    h("div", { class: "lane-group" }, t("Conversations, mean per moment")),
    ...lanes.slice(0, timeline.replicas.length).map((lane) => lane.element),
    ...(timeline.memory.length ? [h("div", { class: "lane-group" }, t("GPU memory in use"))] : []),
    ...lanes.slice(timeline.replicas.length).map((lane) => lane.element),
    h("div", { class: "lane" }, h("span", { class: "axis-name" }, t("min:s since the start")), axis, time),
  );
  const cursors = lanes.map((lane) => lane.plot.appendChild(h("i", { class: "cursor", hidden: true })));

  function point(fraction) {
    time.textContent = fraction === null ? "" : t("at {time}", { time: clock(fraction * timeline.seconds) });
    lanes.forEach((lane, position) => {
      lane.value.textContent = lane.read(fraction);
      cursors[position].hidden = fraction === null;
      if (fraction !== null) cursors[position].style.left = `${100 * fraction}%`;
    });
  }
  container.onpointermove = (event) => {
    const box = axis.getBoundingClientRect();
    const fraction = (event.clientX - box.left) / box.width;
    point(fraction >= 0 && fraction < 1 ? fraction : null);
  };
  container.onpointerleave = () => point(null);
  point(null);
}

function replicaLane(replica) {
  const numBins = replica.generating.length;
  const peak = Math.max(replica.num_conversations, ...replica.generating.map((value, i) => value + replica.waiting[i]));
  const base = new Array(numBins).fill(0);
  const areas = STATES.map(([state]) => {
    const lower = base.slice();
    replica[state].forEach((value, i) => (base[i] += value));
    return svg("path", { d: areaPath(lower, base, peak), class: `fill-${state}` });
  });
  areas.push(svg("path", { d: areaPath(new Array(numBins).fill(0), replica.loading, 1), class: "fill-loading" }));
  const plot = h("div", { class: "lane-plot" }, plotFrame(numBins, areas), h("span", { class: "lane-top" }, peak.toFixed(0)));
  const gpus = replica.gpus.length ? count(replica.gpus.length, "GPU") : "CPU";
  return lane(
    plot,
    [t("Replica {n}", { n: replica.replica }), h("small", {}, gpus + (replica.was_killed ? ` · ${t("ended early")}` : ""))],
    (fraction) => {
      if (fraction === null) return t("{share} of its time generating", { share: `${(100 * replica.busy).toFixed(0)}%` });
      const bin = Math.floor(fraction * numBins);
      if (replica.loading[bin] > 0.5) return t("loading");
      return `${replica.generating[bin].toFixed(1)} ${t("generating")}\n${replica.waiting[bin].toFixed(1)} ${t("waiting for an API")}`;
    },
  );
}

function memoryLane(curve, names) {
  const numBins = curve.used_bytes.length;
  const values = held(curve.used_bytes);
  const area = svg("path", { d: areaPath(new Array(numBins).fill(0), values, curve.total_bytes), class: "fill-memory" });
  const plot = h("div", { class: "lane-plot memory" }, plotFrame(numBins, [area]),
    h("span", { class: "lane-top" }, gib(curve.total_bytes)));
  const highest = Math.max(...values);
  return lane(plot, [names.get(curve.gpu) || curve.gpu.slice(0, 12)], (fraction) =>
    fraction === null ? t("{n} at most", { n: gib(highest) }) : gib(values[Math.floor(fraction * numBins)]),
  );
}

function lane(plot, name, read) {
  const value = h("div", { class: "lane-value" });
  const element = h("div", { class: "lane" }, h("div", { class: "lane-name" }, name), plot, value);
  return { element, plot, value, read };
}

function plotFrame(numBins, paths) {
  return svg("svg", { viewBox: `0 0 ${numBins} 1`, preserveAspectRatio: "none", "aria-hidden": "true" }, paths);
}

/** A band of steps between two lists of values, in a frame that is one unit per bin wide and 1 high. */
function areaPath(lower, upper, peak) {
  const y = (value) => (1 - Math.min(1, value / peak)).toFixed(4);
  const there = upper.map((value, i) => `L${i} ${y(value)}L${i + 1} ${y(value)}`);
  const back = lower.map((value, i) => `L${i + 1} ${y(value)}L${i} ${y(value)}`).reverse();
  return `M0 1${there.join("")}${back.join("")}Z`;
}

/** Samples come seldom: a bin without one has the value of the one before it. */
function held(values) {
  let last = values.find((value) => value !== null) || 0;
  return values.map((value) => (last = value === null ? last : value));
}

/** UUID -> "GPU 0 · H200". */
function gpuNames(run) {
  const gpus = run ? run.gpus : [];
  return new Map(gpus.map((gpu) => [gpu.uuid, gpu.cuda_index === null ? gpu.name : `GPU ${gpu.cuda_index} · ${gpu.name}`]));
}

const HISTOGRAM_BARS = 24;

/** How often which number of steps, of tokens and of seconds: a small plot for each that rows have values of. */
function showHistograms(rows) {
  const plots = [
    ["Steps", rows.map((row) => row.steps), (value) => NUMBER.format(Math.round(value)), true],
    ["Tokens", rows.map((row) => row.tokens), shortNumber, true],
    ["Time", rows.map((row) => row.seconds), duration, false],
  ].map(([name, values, format, areWhole]) => histogram(name, values.filter((value) => value !== null), format, areWhole));
  const shown = plots.filter(Boolean);
  byId("histograms").replaceChildren(...shown);
  byId("distribution-section").hidden = !shown.length;
}

function histogram(name, values, format, areWhole) {
  if (values.length < 2) return null;
  const low = Math.min(...values);
  const high = Math.max(...values);
  // Whole numbers that are few get a bar each.
  const numBars = areWhole ? Math.min(HISTOGRAM_BARS, high - low + 1) : HISTOGRAM_BARS;
  const width = areWhole ? (high - low + 1) / numBars : (high - low) / numBars || 1;
  const bars = new Array(numBars).fill(0);
  for (const value of values) bars[Math.min(numBars - 1, Math.floor((value - low) / width))] += 1;
  const peak = Math.max(...bars);
  const shapes = bars.map((number, i) => {
    const from = format(low + i * width);
    const to = format(areWhole ? Math.max(low + i * width, low + (i + 1) * width - 1) : low + (i + 1) * width);
    return svg("rect", { x: i + 0.06, y: 1 - number / peak, width: 0.88, height: number / peak, class: "fill-generating" },
      svg("title", {}, `${from === to ? from : `${from} – ${to}`}: ${NUMBER.format(number)}`));
  });
  const plot = svg("svg", { viewBox: `0 0 ${numBars} 1`, preserveAspectRatio: "none", role: "img", "aria-label": t(name) }, shapes);
  return h("figure", { class: "histogram" },
    h("figcaption", {}, h("b", {}, t(name)), h("span", { class: "muted" }, t("{n} at most", { n: NUMBER.format(peak) }))),
    h("div", { class: "histogram-plot" }, plot),
    h("div", { class: "histogram-axis" }, h("span", {}, format(low)), h("span", {}, format(high))));
}
