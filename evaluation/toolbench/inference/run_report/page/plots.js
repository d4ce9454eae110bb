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
  byId("timeline-legend").append(
    ...STATES.map(([state, label]) => h("span", {}, h("i", { class: `swatch fill-${state}` }), label)),
    h("span", {}, h("i", { class: "swatch fill-idle" }), "idle"),
  );
  const buttons = timelines.map((timeline, position) =>
    h("button", { type: "button", onclick: () => choose(position) }, `${position + 1} · ${dateTime(timeline.start)}`),
  );
  if (timelines.length > 1) byId("run-choice").append(...buttons);

  function choose(chosen) {
    buttons.forEach((button, position) => button.setAttribute("aria-pressed", String(position === chosen)));
    drawTimeline(byId("timeline"), timelines[chosen], gpuNames(report.run));
  }
  choose(timelines.length - 1);
}

function drawTimeline(container, timeline, names) {
  const lanes = [
    ...timeline.replicas.map(replicaLane),
    ...timeline.memory.map((curve) => memoryLane(curve, names)),
  ];
  const axis = h("div", { class: "axis" });
  const step = TICK_STEPS.find((each) => timeline.seconds / each <= MOST_TICKS) || timeline.seconds / MOST_TICKS;
  for (let t = 0; t <= timeline.seconds * 0.97; t += step) {
    const tick = h("span", {}, clock(t));
    tick.style.left = `${(100 * t) / timeline.seconds}%`;
    axis.append(tick);
  }
  const time = h("div", { class: "lane-value" });
  container.replaceChildren(
    h("div", { class: "lane-group" }, "Conversations, mean per moment"),
    ...lanes.slice(0, timeline.replicas.length).map((lane) => lane.element),
    ...(timeline.memory.length ? [h("div", { class: "lane-group" }, "GPU memory in use")] : []),
    ...lanes.slice(timeline.replicas.length).map((lane) => lane.element),
    h("div", { class: "lane" }, h("span"), axis, time),
  );
  const cursors = lanes.map((lane) => lane.plot.appendChild(h("i", { class: "cursor", hidden: true })));

  function point(fraction) {
    time.textContent = fraction === null ? "" : `at ${clock(fraction * timeline.seconds)}`;
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
  const plot = h("div", { class: "lane-plot" }, plotFrame(numBins, areas), h("span", { class: "lane-top" }, peak.toFixed(0)));
  const gpus = replica.gpus.length ? count(replica.gpus.length, "GPU") : "CPU";
  return lane(
    plot,
    [`Replica ${replica.replica}`, h("small", {}, gpus + (replica.was_killed ? " · ended early" : ""))],
    (fraction) => {
      if (fraction === null) return `${(100 * replica.busy).toFixed(0)}% of its time generating`;
      const bin = Math.floor(fraction * numBins);
      return `${replica.generating[bin].toFixed(1)} generating\n${replica.waiting[bin].toFixed(1)} waiting for an API`;
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
    fraction === null ? `at most ${gib(highest)}` : gib(values[Math.floor(fraction * numBins)]),
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
