// The page of ebpf-reader. What comes from the server, and so perhaps from a hostile program, is only ever set as text:
// nothing here parses markup.
"use strict";

const get = (id) => document.getElementById(id);

/** Makes an element; `text` is shown as it is. */
function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// ---- Asking the server ----

const TOKEN_KEY = "ebpf-reader-token";

async function ask(path, parameters) {
  const query = new URLSearchParams(parameters).toString();
  const headers = {};
  const token = sessionStorage.getItem(TOKEN_KEY);
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(query ? `${path}?${query}` : path, { headers });
  if (response.status === 401) {
    get("token").hidden = false;
    throw new Error(token ? "The token is wrong." : "A token is needed.");
  }
  if (!response.ok) throw new Error((await response.text()).trim() || `status ${response.status}`);
  get("token").hidden = true;
  return response;
}

const askJson = async (path, parameters) => (await ask(path, parameters)).json();

function say(error) {
  const message = get("message");
  message.hidden = !error;
  message.textContent = error ? error.message || String(error) : "";
}

// ---- Numbers as text ----

function time(ns) {
  if (ns <= 0) return "0";
  if (ns < 1e6) return `${(ns / 1e3).toPrecision(3)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toPrecision(3)} ms`.replace(/^1\.00e\+3/, "1000");
  if (ns < 6e11) return `${(ns / 1e9).toFixed(ns < 1e10 ? 2 : 1)} s`;
  return `${Math.round(ns / 6e10)} min`;
}

function count(number) {
  return number < 10000 ? String(number) : number < 1e6 ? `${(number / 1e3).toFixed(1)} k` : `${(number / 1e6).toFixed(1)} M`;
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
const percent = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(1)} %` : "0 %");

function ago(ms) {
  const seconds = Math.max(0, Math.round((Date.now() - ms) / 1000));
  return seconds < 90 ? `${seconds} s ago` : `${Math.round(seconds / 60)} min ago`;
}

// ---- What is shown: in the address, so that it can be linked and gone back to ----

const GROUPS = [
  ["trace", "Traces", "Trace"],
  ["http.route", "Routes", "Route"],
  ["span-name", "Spans", "Span"],
  ["service", "Services", "Service"],
  ["process", "Processes", "Process"],
];
const ACTIVITIES = [["all", "All"], ["cpu", "CPU"], ["off-cpu", "Off-CPU"]];

function here() {
  const query = new URLSearchParams(location.search);
  const trace = location.pathname.match(/^\/trace\/([^/]*)$/);
  return {
    trace: trace ? decodeURIComponent(trace[1]) : null,
    by: query.get("by") || "trace",
    value: query.get("value"),
    seconds: query.get("seconds") || "",
    search: query.get("search") || "",
    activity: query.get("activity") || "all",
  };
}

function address(place) {
  const query = new URLSearchParams();
  const path = place.trace !== null ? `/trace/${encodeURIComponent(place.trace)}` : "/";
  if (place.trace === null && place.by !== "trace") query.set("by", place.by);
  if (place.trace === null && place.value !== null) query.set("value", place.value);
  if (place.seconds) query.set("seconds", place.seconds);
  if (place.search) query.set("search", place.search);
  if (place.activity !== "all") query.set("activity", place.activity);
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

function go(change, replace) {
  const target = address({ ...here(), ...change });
  if (replace) history.replaceState(null, "", target);
  else history.pushState(null, "", target);
  show();
}

/** Names by which the server knows a group's samples: an attribute. */
function attributeOf(by) {
  return { "span-name": "span_name", service: "service.name" }[by] || by;
}

/** Where a click on a row leads to; null where a group cannot be asked for alone. */
function placeOf(by, name) {
  if (by === "trace") return { trace: name, value: null, search: "" };
  if (by === "span") return { trace: name.split(" ")[0], value: null, search: "" };
  return { by, value: name, search: "" };
}

/** The samples of the place that is shown. */
function filterOf(place) {
  const filter = {};
  if (place.trace !== null) filter.trace_id = place.trace;
  else if (place.by === "process") {
    const pid = place.value.match(/\((\d+)\)$/);
    filter.attribute = `process.pid=${pid ? pid[1] : ""}`;
  } else filter.attribute = `${attributeOf(place.by)}=${place.value}`;
  if (place.activity !== "all") filter.activity = place.activity;
  if (place.seconds) filter.seconds = place.seconds;
  return filter;
}

let turn = 0;

async function show() {
  const place = here();
  const mine = ++turn;
  const isFlame = place.trace !== null || place.value !== null;
  get("table-view").hidden = isFlame;
  get("flame-view").hidden = !isFlame;
  try {
    if (isFlame) await showFlame(place, mine);
    else await showTable(place, mine);
    if (mine === turn) say(null);
  } catch (error) {
    if (mine === turn) say(error);
  }
  document.body.dataset.shown = String(mine);
}

function choice(element, options, chosen, onChoice) {
  element.replaceChildren(
    ...options.map(([value, text]) => {
      const button = make("button", "", text);
      button.type = "button";
      button.setAttribute("aria-pressed", String(value === chosen));
      button.addEventListener("click", () => onChoice(value));
      return button;
    }),
  );
}

// ---- The table ----

async function showTable(place, mine) {
  document.title = "ebpf-reader";
  choice(get("by"), GROUPS, place.by, (by) => go({ by, search: "" }));
  const known = GROUPS.find(([by]) => by === place.by);
  get("heading").textContent = known ? known[2] : place.by;
  get("seconds").value = place.seconds;
  if (get("search") !== document.activeElement) get("search").value = place.search;
  const time_ = place.seconds ? { seconds: place.seconds } : {};
  const [usage, labels] = await Promise.all([
    askJson("/api/usage", { by: place.by, search: place.search, ...time_ }),
    askJson("/api/labels", time_),
  ]);
  if (mine !== turn) return;
  fillAttributes(labels, place.by);
  fillRows(usage, place);
}

function fillAttributes(labels, chosen) {
  const select = get("attribute");
  const present = Array.from(select.options, (option) => option.value).slice(1);
  if (JSON.stringify(present) !== JSON.stringify(labels)) {
    const options = labels.map((label) => {
      const option = make("option", "", label);
      option.value = label;
      return option;
    });
    select.replaceChildren(select.options[0], ...options);
  }
  select.value = labels.includes(chosen) ? chosen : "";
}

const offCpu = (usage) => usage.blocked_ns + usage.preempted_ns;

function fillRows(usage, place) {
  // Idle threads wait without a trace, and would make all that matters look small.
  const total = usage.total.cpu_ns + offCpu(usage.total) - offCpu(usage.without);
  // Bars compare the rows with each other: the share of one of a thousand traces would not be seen.
  const longest = Math.max(0, ...usage.groups.map((group) => group.cpu_ns + offCpu(group)));
  const rows = usage.groups.map((group) => {
    const row = tableRow(group.name, group, total, longest);
    row.classList.add("row");
    row.append(make("td", "number wide", ago(group.last_seen_ms)));
    const target = placeOf(place.by, group.name);
    const link = make("a", "", group.name || "(empty)");
    link.href = address({ ...here(), ...target });
    row.cells[0].replaceChildren(link);
    row.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      go(target);
    });
    return row;
  });
  if (!place.search) {
    const rest = tableRow(place.by === "trace" ? "(without context)" : "(without it)", usage.without, total, longest);
    rest.querySelector(".meter .off").remove();
    rest.querySelector(".share").title = `${percent(usage.without.cpu_ns, total)} of all, on CPU`;
    rest.classList.add("rest");
    rest.append(make("td", "wide"));
    rows.push(rest);
  }
  get("rows").replaceChildren(...rows);
  const more = usage.count - usage.groups.length;
  const all = usage.total;
  get("summary").textContent =
    `${count(all.samples)} samples, ${time(all.cpu_ns)} on CPU, ${time(offCpu(all))} off CPU` +
    (more > 0 ? `; ${more} more rows: search for them` : "") +
    (usage.groups.length === 0 ? "; nothing here yet: windows come every few seconds" : "");
}

function tableRow(name, usage, total, longest) {
  const row = document.createElement("tr");
  const meter = make("div", "meter");
  for (const [part, kind] of [[usage.cpu_ns, "cpu"], [offCpu(usage), "off"]]) {
    const bar = make("div", kind);
    bar.style.width = longest > 0 ? `${Math.min(100, (100 * part) / longest)}%` : "0";
    meter.append(bar);
  }
  const share = make("td", "share");
  share.title = `${percent(usage.cpu_ns + offCpu(usage), total)} of all`;
  share.append(meter);
  row.append(
    make("td", "name", name),
    make("td", "number", time(usage.cpu_ns)),
    make("td", "number", time(offCpu(usage))),
    share,
    make("td", "number wide", count(usage.samples)),
  );
  return row;
}

// ---- The flame graph ----

const ROW_HEIGHT = 20;
/** Frames that are narrower, in parts of the whole width, are not drawn. */
const NARROWEST = 1 / 1500;

let graph = null;

async function showFlame(place, mine) {
  const name = place.trace !== null ? `trace ${place.trace}` : `${place.by} ${place.value}`;
  document.title = `${name} – ebpf-reader`;
  get("title").textContent = name;
  get("back").href = address({ ...place, trace: null, value: null, activity: "all" });
  choice(get("activity"), ACTIVITIES, place.activity, (activity) => go({ activity }));
  const data = await askJson("/api/flame", filterOf(place));
  if (mine !== turn) return;
  graph = { names: data.names, hidden: data.hidden, root: link(data.root, null), zoom: null };
  graph.zoom = graph.root;
  draw();
}

/** [name, ns, samples, child, …] as objects that know their parent. */
function link(node, parent) {
  const [name, ns, samples, ...children] = node;
  const linked = { name, ns, samples, parent, children: [] };
  linked.children = children.map((child) => link(child, linked));
  return linked;
}

const nameOf = (node) => graph.names[node.name] ?? "";

function colour(name) {
  let hash = 0;
  for (const c of name) hash = (hash * 31 + c.codePointAt(0)) >>> 0;
  return `f${hash % 6}`;
}

function draw() {
  const flame = get("flame");
  const { root, zoom } = graph;
  const wanted = get("highlight").value.trim().toLowerCase();
  let depth = 0;
  let marked = 0;
  const frames = [];
  const add = (node, level, left, width, above) => {
    const name = nameOf(node);
    const isMarked = wanted !== "" && name.toLowerCase().includes(wanted);
    const frame = make("div", `frame ${colour(name)}${above ? " above" : ""}${isMarked ? " marked" : ""}`, name);
    frame.style.left = `${left * 100}%`;
    frame.style.width = `${width * 100}%`;
    frame.style.top = `${level * ROW_HEIGHT}px`;
    frame.title = describe(node);
    frame.tabIndex = 0;
    frame.setAttribute("role", "treeitem");
    frame.node = node;
    frames.push(frame);
    depth = Math.max(depth, level + 1);
    return isMarked;
  };
  const path = [];
  for (let node = zoom.parent; node; node = node.parent) path.unshift(node);
  path.forEach((node, level) => add(node, level, 0, 1, true));
  const walk = (node, level, left, inMarked) => {
    const width = zoom.ns > 0 ? node.ns / zoom.ns : 1;
    if (width < NARROWEST) return;
    const isMarked = add(node, level, left, width, false);
    if (isMarked && !inMarked) marked += node.ns;
    let at = left;
    for (const child of node.children) {
      walk(child, level + 1, at, inMarked || isMarked);
      at += zoom.ns > 0 ? child.ns / zoom.ns : 0;
    }
  };
  walk(zoom, path.length, 0, false);
  flame.style.height = `${depth * ROW_HEIGHT}px`;
  flame.replaceChildren(...frames);
  get("reset").disabled = zoom === root;
  get("flame-summary").textContent =
    `${time(root.ns)} in ${count(root.samples)} samples` +
    (wanted ? `; highlighted ${time(marked)}, ${percent(marked, zoom.ns)}` : "") +
    (graph.hidden > 0 ? `; ${graph.hidden} small frames are not shown` : "") +
    (root.ns === 0 ? "; there are no such samples in what is kept" : "");
}

function describe(node) {
  return `${nameOf(node)} – ${time(node.ns)}, ${percent(node.ns, graph.root.ns)}, ${count(node.samples)} samples`;
}

function zoomTo(frame) {
  if (!frame || !frame.node) return;
  graph.zoom = frame.node;
  draw();
}

async function download() {
  const place = here();
  try {
    const filter = filterOf(place);
    const response = await ask("/debug/pprof/past", { seconds: status.keep_seconds || 900, ...filter });
    const anchor = document.createElement("a");
    anchor.href = URL.createObjectURL(await response.blob());
    anchor.download = `${(place.trace ?? place.value).replace(/[^\w.-]+/g, "_")}.pb.gz`;
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(anchor.href), 10000);
  } catch (error) {
    say(error);
  }
}

// ---- The state of the server ----

let status = {};

async function showStatus() {
  try {
    status = await askJson("/api/status");
  } catch {
    return;
  }
  const fields = [
    ["processes", count(status.targets)],
    ["samples", count(status.samples)],
    ["with context", percent(status.with_context, status.samples)],
    ["lost", count(status.lost), status.lost > 0],
    ["kept", status.begin_ms ? ago(status.begin_ms).replace(" ago", "") : "nothing yet"],
    ["ring", `${megabytes(status.ring_bytes)} of ${megabytes(status.ring_limit_bytes)}`],
  ];
  if (status.push) {
    const failing = Boolean(status.push.last_error);
    fields.push(["pushed", failing ? `failing, ${count(status.push.queued)} wait` : count(status.push.sent), failing]);
  }
  get("status").replaceChildren(
    ...fields.map(([name, value, bad]) => {
      const field = make("div", bad ? "bad" : "");
      field.append(make("dt", "", name), make("dd", "", value));
      return field;
    }),
  );
}

// ---- Events ----

const REFRESH_MS = 5000;

function start() {
  window.addEventListener("popstate", show);
  get("find").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = get("find-id").value.trim().toLowerCase();
    if (!/^[0-9a-f]{32}$/.test(id)) return say(new Error("A trace id has 32 hexadecimal digits."));
    go({ trace: id, value: null, search: "", activity: "all" });
  });
  get("token").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN_KEY, get("token-value").value.trim());
    get("token-value").value = "";
    show();
    showStatus();
  });
  get("attribute").addEventListener("change", (event) => event.target.value && go({ by: event.target.value, search: "" }));
  get("seconds").addEventListener("change", (event) => go({ seconds: event.target.value }));
  get("search").addEventListener("input", (event) => go({ search: event.target.value.trim() }, true));
  get("back").addEventListener("click", (event) => {
    event.preventDefault();
    go({ trace: null, value: null, activity: "all" });
  });
  document.querySelector(".brand").addEventListener("click", (event) => {
    event.preventDefault();
    go({ trace: null, value: null, by: "trace", search: "", seconds: "", activity: "all" });
  });
  get("highlight").addEventListener("input", () => graph && draw());
  get("reset").addEventListener("click", () => {
    graph.zoom = graph.root;
    draw();
  });
  get("download").addEventListener("click", download);
  const flame = get("flame");
  flame.addEventListener("click", (event) => zoomTo(event.target.closest(".frame")));
  flame.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      zoomTo(event.target.closest(".frame"));
    }
  });
  flame.addEventListener("mouseover", (event) => {
    const frame = event.target.closest(".frame");
    if (frame) get("detail").textContent = describe(frame.node);
  });
  setInterval(() => {
    if (document.hidden) return;
    showStatus();
    if (!get("table-view").hidden && get("live").checked) show();
  }, REFRESH_MS);
  show();
  showStatus();
}

start();
