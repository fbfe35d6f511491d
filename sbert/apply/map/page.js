"use strict";
// The map: points by WebGL (by a plain canvas where there is none), labels on a second canvas, texts only by textContent.
(async () => {
const $ = (id) => document.getElementById(id);
const PALETTE = ["#4269d0", "#e8a013", "#f0604d", "#3fb6a8", "#3ca951", "#f27bb0", "#9a5ae6", "#6fa8f0", "#a06a48", "#7d8591",
  "#c2cf2b", "#d6336c", "#1098ad", "#e8590c", "#5f3dc4", "#2b8a3e", "#b0413e", "#c08bd9", "#66801a", "#0b7285"];
const SCALE = ["#4a4fb5", "#3a7cc4", "#2aa5b0", "#37b878", "#93c13f", "#e0b52b", "#ea8230", "#d3435c"];
const REST = "#8b929a", STEPS = 65535, RESULTS = 200, CELLS = 256;

// ---- data ----------------------------------------------------------------------------------------------------------
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const whole = await new Response(stream).arrayBuffer();
  const first = 4 + new DataView(whole).getUint32(0, true);
  const utf8 = new TextDecoder();
  const header = JSON.parse(utf8.decode(new Uint8Array(whole, 4, first - 4)));
  const get = (name) => {
    const { kind, offset, bytes: size } = header.arrays[name];
    if (kind === "text") return utf8.decode(new Uint8Array(whole, first + offset, size)).split("\0");
    return kind === "u2" ? new Uint16Array(whole, first + offset, size / 2) : new Uint8Array(whole, first + offset, size);
  };
  return { facts: header.facts, get };
}
let data;
try { data = await unpack($("data").textContent); } catch (error) {
  $("busy").textContent = "This browser cannot unpack the map: use a current one."; return;
}
$("data").remove(); $("busy").remove();
const { facts, get } = data, N = facts.rows;
const X = new Float32Array(N), Y = new Float32Array(N);
{ const x = get("x"), y = get("y"); for (let i = 0; i < N; i++) { X[i] = x[i] / STEPS - .5; Y[i] = .5 - y[i] / STEPS; } }
const columns = facts.columns.map((name, at) => ({ name, values: get("t" + at) }));
const number = (value) => value.toLocaleString("en");
$("facts").textContent = (facts.rows < facts.table_rows ? number(facts.rows) + " of " : "") + number(facts.table_rows) +
  (facts.table_rows === 1 ? " row" : " rows") + " · version " + facts.version + " · " + facts.encoder.split("/").pop();

// ---- colourings ----------------------------------------------------------------------------------------------------
function colourOf(colouring, at) {
  const count = colouring.labels.length - colouring.rest;
  if (at >= count) return REST;
  if (colouring.kind === "number") return SCALE[count < 2 ? 0 : Math.round(at * (SCALE.length - 1) / (count - 1))];
  if (at < PALETTE.length) return PALETTE[at];
  return hex((at * 137.508) % 360, .5 + .2 * (at % 2), .44 + .09 * (at % 3));
}
function hex(hue, saturation, light) {
  const part = (shift) => { const k = (shift + hue / 30) % 12, a = saturation * Math.min(light, 1 - light);
    return Math.round(255 * (light - a * Math.max(-1, Math.min(k - 3, 9 - k, 1)))).toString(16).padStart(2, "0"); };
  return "#" + part(0) + part(8) + part(4);
}
const rgb = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
const colourings = facts.colourings.map((item, at) => {
  const codes = get("c" + at), counts = new Array(item.labels.length).fill(0);
  for (let i = 0; i < N; i++) counts[codes[i]]++;
  const made = { ...item, codes, counts };
  made.colours = item.labels.map((_, entry) => colourOf(item, entry));
  return made;
});
const state = { colouring: colourings[facts.colouring], picked: new Set(), matches: null, hover: -1, pinned: -1, words: [] };
const lit = new Uint8Array(N), tint = new Uint8Array(4 * N);
let numLit = N;

function paint() {
  const { codes, colours } = state.colouring, values = colours.map(rgb);
  numLit = 0;
  for (let i = 0; i < N; i++) {
    const on = (!state.picked.size || state.picked.has(codes[i])) && (!state.matches || state.matches[i]);
    lit[i] = on ? 1 : 0; numLit += lit[i];
    const [r, g, b] = values[codes[i]];
    tint[4 * i] = r; tint[4 * i + 1] = g; tint[4 * i + 2] = b; tint[4 * i + 3] = on ? 255 : 0;
  }
  renderer.recolour(); draw();
}

// Where a legend entry is densest: its label stands there.
function labelPlaces(colouring) {
  if (colouring.places) return colouring.places;
  const G = 48, count = colouring.labels.length - colouring.rest;
  const cells = new Uint32Array(G * G * count), cell = (v) => Math.max(0, Math.min(G - 1, Math.floor((v + .5) * G)));
  for (let i = 0; i < N; i++) if (colouring.codes[i] < count) cells[colouring.codes[i] * G * G + cell(Y[i]) * G + cell(X[i])]++;
  const best = [];
  for (let entry = 0; entry < count; entry++) {
    let top = -1, where = 0;
    for (let y = 0; y < G; y++) for (let x = 0; x < G; x++) {
      let sum = 0;
      for (let dy = -2; dy <= 2; dy++) for (let dx = -2; dx <= 2; dx++) if (y + dy >= 0 && y + dy < G && x + dx >= 0 && x + dx < G)
        sum += cells[entry * G * G + (y + dy) * G + x + dx] / (1 + .35 * (dx * dx + dy * dy));
      if (sum > top) { top = sum; where = y * G + x; }
    }
    best.push({ cx: where % G, cy: Math.floor(where / G), x: 0, y: 0, n: 0 });
  }
  for (let i = 0; i < N; i++) {
    const at = best[colouring.codes[i]];
    if (at && Math.abs(cell(X[i]) - at.cx) < 3 && Math.abs(cell(Y[i]) - at.cy) < 3) { at.x += X[i]; at.y += Y[i]; at.n++; }
  }
  colouring.places = best.map((at) => at.n ? { x: at.x / at.n, y: at.y / at.n } : null);
  return colouring.places;
}

// ---- view ----------------------------------------------------------------------------------------------------------
const view = { x: 0, y: 0, scale: 1, fit: 1, width: 1, height: 1, ratio: 1 };
const toScreen = (x, y) => [view.width / 2 + (x - view.x) * view.scale, view.height / 2 + (y - view.y) * view.scale];
const toMap = (x, y) => [view.x + (x - view.width / 2) / view.scale, view.y + (y - view.height / 2) / view.scale];
function room() { // the part of the window that no panel covers
  const wide = view.width > 700, head = $("head").getBoundingClientRect(), legend = $("legend").getBoundingClientRect();
  const side = wide && view.width < 1500 ? 24 : wide ? head.right : 0;
  return wide ? { left: Math.min(side, view.width * .3), right: view.width - (legend.width ? Math.min(view.width * .26, view.width - legend.left) : 24), top: 24, bottom: view.height - 24 }
    : { left: 8, right: view.width - 8, top: Math.min(head.bottom, view.height * .3) + 8, bottom: view.height - 92 };
}
function boxOf(use) {
  let left = 1, right = -1, top = 1, bottom = -1;
  for (let i = 0; i < N; i++) if (use(i)) { left = Math.min(left, X[i]); right = Math.max(right, X[i]); top = Math.min(top, Y[i]); bottom = Math.max(bottom, Y[i]); }
  return right < left ? null : { left, right, top, bottom };
}
function goTo(box, glide = true) {
  const free = room(), width = Math.max(box.right - box.left, 1e-4), height = Math.max(box.bottom - box.top, 1e-4);
  const scale = Math.min((free.right - free.left) / width, (free.bottom - free.top) / height) * .96;
  const limited = Math.min(scale, view.fit * 24);
  const x = (box.left + box.right) / 2 + (view.width / 2 - (free.left + free.right) / 2) / limited;
  const y = (box.top + box.bottom) / 2 + (view.height / 2 - (free.top + free.bottom) / 2) / limited;
  move({ x, y, scale: limited }, glide);
}
let frame = 0, glideFrame = 0;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
function move(target, glide) {
  cancelAnimationFrame(glideFrame); movedAt = performance.now();
  if (!glide || calm.matches) { Object.assign(view, target); draw(); return; }
  const from = { x: view.x, y: view.y, scale: view.scale }, began = performance.now();
  const step = (now) => {
    const part = Math.min(1, (now - began) / 380), ease = 1 - (1 - part) ** 3;
    view.scale = from.scale * (target.scale / from.scale) ** ease;
    view.x = from.x + (target.x - from.x) * ease; view.y = from.y + (target.y - from.y) * ease;
    movedAt = now; draw(); if (part < 1) glideFrame = requestAnimationFrame(step);
  };
  glideFrame = requestAnimationFrame(step);
}
function zoom(factor, x = view.width / 2, y = view.height / 2, glide = false) {
  const scale = Math.max(view.fit * .5, Math.min(view.fit * 400, view.scale * factor)), [mx, my] = toMap(x, y);
  move({ scale, x: mx - (x - view.width / 2) / scale, y: my - (y - view.height / 2) / scale }, glide);
}
function shift(x, y) { movedAt = performance.now(); view.x -= x / view.scale; view.y -= y / view.scale; draw(); }
const everything = boxOf(() => true);
function resize() {
  const was = view.scale / view.fit;
  view.width = innerWidth; view.height = innerHeight; view.ratio = Math.min(devicePixelRatio || 1, 3);
  for (const canvas of [$("points"), $("over")]) { canvas.width = view.width * view.ratio; canvas.height = view.height * view.ratio; }
  const free = room();
  view.fit = Math.min((free.right - free.left) / Math.max(everything.right - everything.left, 1e-4), (free.bottom - free.top) / Math.max(everything.bottom - everything.top, 1e-4)) * .96;
  if (Math.abs(was - 1) < .02 || was === 1) goTo(everything, false); else { view.scale = view.fit * was; draw(); }
}
function pointSize() { // CSS pixels
  const sparse = Math.sqrt(view.fit * view.fit / N) * .5;
  return Math.max(2.2, Math.min(9, sparse)) * Math.min(3, Math.max(.8, (view.scale / view.fit) ** .32));
}

// ---- drawing -------------------------------------------------------------------------------------------------------
function webgl(canvas) {
  const gl = canvas.getContext("webgl", { antialias: false, alpha: true, premultipliedAlpha: true, powerPreference: "low-power" });
  if (!gl) return null;
  const shader = (kind, source) => { const made = gl.createShader(kind); gl.shaderSource(made, source); gl.compileShader(made); return made; };
  const program = gl.createProgram();
  gl.attachShader(program, shader(gl.VERTEX_SHADER, `attribute vec2 place; attribute vec4 tint; uniform vec2 centre, scale; uniform float pass; uniform mediump float size; varying vec3 colour;
    void main() { gl_Position = abs(tint.a - pass) > .5 ? vec4(2., 2., 2., 1.) : vec4((place - centre) * scale, 0., 1.); gl_PointSize = size; colour = tint.rgb; }`));
  gl.attachShader(program, shader(gl.FRAGMENT_SHADER, `precision mediump float; varying vec3 colour; uniform float alpha, grey; uniform mediump float size; uniform vec3 dim;
    void main() { float far = length(gl_PointCoord - .5) * size; float on = clamp(size * .5 - far, 0., 1.) * alpha; gl_FragColor = vec4(mix(colour, dim, grey) * on, on); }`));
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return null;
  gl.useProgram(program);
  const places = new Float32Array(2 * N); for (let i = 0; i < N; i++) { places[2 * i] = X[i]; places[2 * i + 1] = Y[i]; }
  const bind = (name, values, size, kind, normal) => {
    const buffer = gl.createBuffer(), at = gl.getAttribLocation(program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer); gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(at); gl.vertexAttribPointer(at, size, kind, normal, 0, 0); return buffer;
  };
  bind("place", places, 2, gl.FLOAT, false);
  const tints = bind("tint", tint, 4, gl.UNSIGNED_BYTE, true);
  const uniform = Object.fromEntries(["centre", "scale", "size", "pass", "alpha", "grey", "dim"].map((name) => [name, gl.getUniformLocation(program, name)]));
  gl.enable(gl.BLEND); gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  return {
    recolour() { gl.bindBuffer(gl.ARRAY_BUFFER, tints); gl.bufferSubData(gl.ARRAY_BUFFER, 0, tint); },
    draw(size, dark, count) {
      gl.viewport(0, 0, canvas.width, canvas.height); gl.clearColor(0, 0, 0, 0); gl.clear(gl.COLOR_BUFFER_BIT);
      gl.uniform2f(uniform.centre, view.x, view.y); gl.uniform2f(uniform.scale, 2 * view.scale / view.width, -2 * view.scale / view.height);
      gl.uniform3f(uniform.dim, ...(dark ? [.42, .45, .48] : [.72, .74, .76]));
      const pass = (on, across, alpha, grey) => { gl.uniform1f(uniform.pass, on); gl.uniform1f(uniform.size, across * view.ratio + 1); gl.uniform1f(uniform.alpha, alpha); gl.uniform1f(uniform.grey, grey); gl.drawArrays(gl.POINTS, 0, count); };
      if (numLit < N) pass(0, size * .8, dark ? .28 : .34, 1);
      const boost = numLit < N / 20 ? 1.5 : 1;
      pass(1, size * boost, numLit < N ? .95 : .8, 0);
    },
  };
}
function plain(canvas) { // squares on a canvas: slower, but everywhere
  const context = canvas.getContext("2d");
  return {
    recolour() {},
    draw(size, dark, count) {
      context.setTransform(view.ratio, 0, 0, view.ratio, 0, 0); context.clearRect(0, 0, view.width, view.height);
      for (const on of [0, 1]) {
        context.globalAlpha = on ? .8 : .3;
        for (let i = 0; i < count; i++) if (lit[i] === on) {
          const [x, y] = toScreen(X[i], Y[i]);
          if (x < -9 || y < -9 || x > view.width + 9 || y > view.height + 9) continue;
          context.fillStyle = on ? state.colouring.colours[state.colouring.codes[i]] : dark ? "#6b737a" : "#b8bdc2";
          context.fillRect(x - size / 2, y - size / 2, size, size);
        }
      }
    },
  };
}
function fresh() { const old = $("points"), made = old.cloneNode(); old.replaceWith(made); return made; } // a canvas has one kind of context
let renderer = webgl($("points")) || plain(fresh());
$("points").addEventListener("webglcontextlost", (event) => { event.preventDefault(); renderer = plain(fresh()); draw(); });
const over = $("over").getContext("2d");
const isDark = () => document.documentElement.dataset.theme === "dark";

// While the map moves, a slow machine draws fewer points: the rows are in random order, so the first ones are a fair sample.
let movedAt = -1e9, drawnAt = 0, budget = N, settling = 0;
function draw() { if (!frame) frame = requestAnimationFrame((now) => { frame = 0; render(now); }); }
function render(now) {
  const size = pointSize(), dark = isDark(), moving = now - movedAt < 150, took = now - drawnAt;
  if (moving && took < 1000) budget = took > 45 ? Math.max(4000, budget / 2) : took < 22 ? Math.min(N, budget * 1.25) : budget;
  drawnAt = now;
  renderer.draw(size, dark, moving ? Math.min(N, Math.round(budget)) : N);
  if (moving && budget < N) { clearTimeout(settling); settling = setTimeout(draw, 200); }
  over.setTransform(view.ratio, 0, 0, view.ratio, 0, 0); over.clearRect(0, 0, view.width, view.height);
  drawLabels(dark);
  for (const [at, width] of [[state.pinned, 2.5], [state.hover, 2]]) if (at >= 0) {
    const [x, y] = toScreen(X[at], Y[at]), radius = Math.max(size / 2 + 3, 5.5);
    over.beginPath(); over.arc(x, y, radius, 0, 7); over.lineWidth = width + 2; over.strokeStyle = dark ? "#121417" : "#fff"; over.stroke();
    over.lineWidth = width; over.strokeStyle = dark ? "#fff" : "#111"; over.stroke();
    over.beginPath(); over.arc(x, y, radius - 2.5, 0, 7); over.fillStyle = state.colouring.colours[state.colouring.codes[at]]; over.fill();
  }
}
const shorten = (text, most) => text.length > most ? text.slice(0, most - 1).trimEnd() + "…" : text;
function drawLabels(dark) {
  const { labels, rest, kind, counts } = state.colouring;
  if (kind === "number") return;
  const places = labelPlaces(state.colouring), order = labels.slice(0, labels.length - rest).map((_, at) => at).sort((a, b) => counts[b] - counts[a]);
  const narrow = view.width <= 700, px = view.width > 1900 ? 16 : narrow ? 11.5 : 13.5, taken = [], most = narrow ? 16 : 44;
  const name = (label) => narrow && kind === "topic" ? label.split(", ").slice(0, 2).join(", ") : label;
  const covers = [$("head"), $("legend"), $("zoom"), $("card")].map((item) => item.getBoundingClientRect()).filter((box) => box.width);
  over.font = `600 ${px}px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif`; over.textAlign = "center"; over.textBaseline = "middle"; over.lineJoin = "round";
  for (const at of order) {
    if (taken.length >= most) break;
    if (!places[at] || !counts[at] || (state.picked.size && !state.picked.has(at))) continue;
    const [anchor, y] = toScreen(places[at].x, places[at].y), text = shorten(name(labels[at]), narrow ? 24 : 36), half = over.measureText(text).width / 2;
    if (anchor < 0 || anchor > view.width || y < 0 || y > view.height) continue;
    const x = Math.max(half + 8, Math.min(view.width - half - 8, anchor));
    const box = [x - half - 5, y - px * .75, x + half + 5, y + px * .75];
    const hits = (left, top, right, bottom) => box[0] < right && box[2] > left && box[1] < bottom && box[3] > top;
    if (taken.some((other) => hits(...other)) || covers.some((other) => hits(other.left, other.top, other.right, other.bottom))) continue;
    taken.push(box);
    over.globalAlpha = state.matches ? .45 : 1;
    over.lineWidth = 4.5; over.strokeStyle = dark ? "rgba(18,20,23,.88)" : "rgba(251,251,250,.9)"; over.strokeText(text, x, y);
    over.fillStyle = dark ? "#f4f5f6" : "#15181b"; over.fillText(text, x, y); over.globalAlpha = 1;
  }
}

// ---- nearest point -------------------------------------------------------------------------------------------------
const cellOf = (value) => Math.max(0, Math.min(CELLS - 1, Math.floor((value + .5) * CELLS)));
const starts = new Uint32Array(CELLS * CELLS + 1), order = new Uint32Array(N);
{ for (let i = 0; i < N; i++) starts[cellOf(Y[i]) * CELLS + cellOf(X[i]) + 1]++;
  for (let at = 0; at < CELLS * CELLS; at++) starts[at + 1] += starts[at];
  const next = starts.slice(); for (let i = 0; i < N; i++) order[next[cellOf(Y[i]) * CELLS + cellOf(X[i])]++] = i; }
function nearest(sx, sy, reach) {
  const [mx, my] = toMap(sx, sy), far = reach / view.scale;
  let best = -1, least = far * far;
  for (let y = cellOf(my - far); y <= cellOf(my + far); y++) for (let x = cellOf(mx - far); x <= cellOf(mx + far); x++)
    for (let at = starts[y * CELLS + x]; at < starts[y * CELLS + x + 1]; at++) {
      const i = order[at], dx = X[i] - mx, dy = Y[i] - my, d = dx * dx + dy * dy;
      if (d < least && lit[i]) { least = d; best = i; }
    }
  return best;
}

// ---- tip, card -----------------------------------------------------------------------------------------------------
function element(kind, text, name) { const made = document.createElement(kind); if (text !== undefined) made.textContent = text; if (name) made.className = name; return made; }
function marked(text) { // the words that were searched for stand out
  const node = document.createDocumentFragment(), plainText = fold(text);
  if (!state.words.length || plainText.length !== text.length) { node.append(text); return node; }
  const spots = [];
  for (const word of state.words) for (let at = plainText.indexOf(word); at >= 0; at = plainText.indexOf(word, at + word.length)) spots.push([at, at + word.length]);
  spots.sort((a, b) => a[0] - b[0]);
  let end = 0;
  for (const [first, last] of spots) if (first >= end) { node.append(text.slice(end, first), element("mark", text.slice(first, last))); end = last; }
  node.append(text.slice(end)); return node;
}
function describe(target, at, whole) {
  const { colouring } = state, kind = element("p", undefined, "kind"), dot = element("i");
  dot.style.background = colouring.colours[colouring.codes[at]];
  kind.append(dot, shorten(colouring.labels[colouring.codes[at]], 60));
  const text = element("p", undefined, "text"); text.append(marked(columns[0].values[at]));
  const list = element("dl");
  for (const column of columns.slice(1)) {
    const value = column.values[at];
    if (!value || (!whole && list.childElementCount >= 8)) continue;
    list.append(element("dt", column.name), element("dd", column.name === "source" && !whole ? value.split("/").pop() : value));
  }
  target.replaceChildren(kind, text, list);
}
function showTip(at, x, y) {
  if (at < 0) { $("tip").hidden = true; return; }
  describe($("tip"), at, false); $("tip").hidden = false;
  const { width, height } = $("tip").getBoundingClientRect();
  $("tip").style.left = Math.max(8, x + 18 + width > view.width ? x - width - 18 : x + 18) + "px";
  $("tip").style.top = Math.max(8, Math.min(view.height - height - 8, y + 14)) + "px";
}
function pin(at) {
  state.pinned = at; $("card").hidden = at < 0;
  if (at >= 0) { describe($("detail"), at, true); $("detail").scrollTop = 0; }
  showTip(-1); draw();
}
$("close").onclick = () => pin(-1);
function visit(at) {
  const half = .06;
  goTo({ left: X[at] - half, right: X[at] + half, top: Y[at] - half, bottom: Y[at] + half }); pin(at);
}

// ---- pointers, keys ------------------------------------------------------------------------------------------------
const surface = $("over"), pointers = new Map();
let moved = 0, gap = 0, middle = null;
surface.addEventListener("pointerdown", (event) => {
  surface.setPointerCapture(event.pointerId); cancelAnimationFrame(glideFrame);
  pointers.set(event.pointerId, [event.clientX, event.clientY]); moved = pointers.size > 1 ? 99 : 0; gap = 0; showTip(-1);
  if (document.activeElement !== surface) document.activeElement.blur();
});
surface.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId), now = [event.clientX, event.clientY];
  if (!before) {
    if (event.pointerType === "touch") return;
    const at = nearest(...now, 12);
    surface.classList.toggle("point", at >= 0);
    if (at !== state.hover) { state.hover = at; draw(); }
    showTip(at, ...now); return;
  }
  pointers.set(event.pointerId, now);
  if (pointers.size === 1) {
    moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
    if (moved > 4) { surface.classList.add("drag"); state.hover = -1; shift(now[0] - before[0], now[1] - before[1]); }
  } else if (pointers.size === 2) {
    const [[ax, ay], [bx, by]] = [...pointers.values()], wide = Math.hypot(ax - bx, ay - by), centre = [(ax + bx) / 2, (ay + by) / 2];
    if (gap) { shift(centre[0] - middle[0], centre[1] - middle[1]); zoom(wide / gap, ...centre); }
    gap = wide; middle = centre;
  }
});
const release = (event) => {
  const there = pointers.delete(event.pointerId); gap = 0;
  if (!pointers.size) surface.classList.remove("drag");
  if (there && event.type === "pointerup" && moved <= 4 && !pointers.size) pin(nearest(event.clientX, event.clientY, event.pointerType === "touch" ? 26 : 12));
};
surface.addEventListener("pointerup", release); surface.addEventListener("pointercancel", release);
surface.addEventListener("pointerleave", () => { state.hover = -1; showTip(-1); draw(); });
surface.addEventListener("wheel", (event) => {
  event.preventDefault(); showTip(-1);
  const lines = event.deltaMode === 1 ? 18 : event.deltaMode === 2 ? 300 : 1;
  zoom(Math.exp(-Math.max(-240, Math.min(240, event.deltaY * lines)) * (event.ctrlKey ? .01 : .0022)), event.clientX, event.clientY);
}, { passive: false });
surface.addEventListener("dblclick", (event) => zoom(2.2, event.clientX, event.clientY, true));
$("in").onclick = () => zoom(1.8, undefined, undefined, true);
$("out").onclick = () => zoom(1 / 1.8, undefined, undefined, true);
$("fit").onclick = () => goTo((numLit && numLit < N && boxOf((i) => lit[i])) || everything);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") { if (state.pinned >= 0) pin(-1); else { $("query").value = ""; search(); $("query").blur(); } return; }
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const shift = 80 / view.scale, to = { ArrowLeft: [-shift, 0], ArrowRight: [shift, 0], ArrowUp: [0, -shift], ArrowDown: [0, shift] }[event.key];
  if (to) { view.x += to[0]; view.y += to[1]; draw(); }
  else if (event.key === "+" || event.key === "=") $("in").click();
  else if (event.key === "-") $("out").click();
  else if (event.key === "0") $("fit").click();
  else if (event.key === "/") { event.preventDefault(); $("query").focus(); }
});

// ---- search --------------------------------------------------------------------------------------------------------
const fold = (text) => text.toLowerCase().normalize("NFD").replace(/[\u0300-\u036f]/g, "").normalize("NFC");
let folded = null, waiting = 0;
function search() {
  state.words = fold($("query").value).split(/\s+/).filter(Boolean);
  if (!state.words.length) state.matches = null;
  else {
    folded ||= columns[0].values.map((_, i) => fold(columns.filter(({ name }) => name !== "source").map(({ values }) => values[i]).join("\n")));
    state.matches = Uint8Array.from(folded, (text) => state.words.every((word) => text.includes(word)) ? 1 : 0);
  }
  paint(); list();
  if (state.pinned >= 0) describe($("detail"), state.pinned, true);
}
function list() {
  $("found").hidden = $("results").hidden = !state.matches;
  if (!state.matches) { $("results").replaceChildren(); return; }
  const rows = [];
  for (let i = 0; i < N && rows.length < RESULTS; i++) if (lit[i]) rows.push(i);
  $("found").textContent = numLit ? number(numLit) + (numLit === 1 ? " text" : " texts") + (numLit > rows.length ? ", the first " + RESULTS + " below" : "") : "Nothing found";
  $("results").replaceChildren(...rows.map((at) => {
    const item = element("li"); item.append(marked(columns[0].values[at] || columns[1].values[at])); item.tabIndex = 0;
    item.onclick = () => visit(at); item.onkeydown = (event) => { if (event.key === "Enter") visit(at); };
    item.onpointerenter = () => { state.hover = at; draw(); }; item.onpointerleave = () => { state.hover = -1; draw(); };
    return item;
  }));
}
$("query").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 140); });
$("query").addEventListener("keydown", (event) => { if (event.key === "Enter") { clearTimeout(waiting); search(); $("fit").click(); } });

// ---- legend --------------------------------------------------------------------------------------------------------
colourings.forEach((item, at) => { const option = element("option", item.name); option.value = at; $("by").append(option); });
function legend() {
  const { labels, colours, counts } = state.colouring;
  $("entries").replaceChildren(...labels.map((label, at) => {
    const item = element("li"), button = element("button"), dot = element("i");
    dot.style.background = colours[at]; button.title = label; button.setAttribute("aria-pressed", state.picked.has(at));
    button.append(dot, element("b", label || "(empty)"), element("span", number(counts[at])));
    button.onclick = () => { if (!state.picked.delete(at)) state.picked.add(at); choose(); };
    item.append(button); return item;
  }));
  choose();
}
function choose() {
  $("legend").classList.toggle("picked", state.picked.size > 0); $("all").hidden = !state.picked.size;
  [...$("entries").querySelectorAll("button")].forEach((button, at) => button.setAttribute("aria-pressed", state.picked.has(at)));
  paint(); if (state.matches) list();
}
$("all").onclick = () => { state.picked.clear(); choose(); };
$("by").onchange = () => { state.colouring = colourings[$("by").value]; state.picked.clear(); legend(); if (state.pinned >= 0) describe($("detail"), state.pinned, true); };
$("fold").onclick = () => { const folds = $("legend").classList.toggle("folded"); $("fold").setAttribute("aria-expanded", !folds); draw(); };

// ---- theme, start --------------------------------------------------------------------------------------------------
const prefers = matchMedia("(prefers-color-scheme: dark)");
let chosen = null;
const dress = () => { document.documentElement.dataset.theme = chosen || (prefers.matches ? "dark" : "light"); draw(); };
$("theme").onclick = () => { chosen = isDark() ? "light" : "dark"; dress(); };
prefers.addEventListener("change", dress);
if (innerWidth <= 700) { $("legend").classList.add("folded"); $("fold").setAttribute("aria-expanded", false); }
$("by").value = facts.colouring;
dress(); legend(); addEventListener("resize", resize); resize();
document.documentElement.dataset.ready = "yes";
})();
