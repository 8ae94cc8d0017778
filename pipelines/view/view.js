"use strict";
// Interaction of a report: filters and sorting, sliders, linked crops, players, and zoom into traces.
// Everything is in the page; without this script the page still shows it.

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// ---- table --------------------------------------------------------------------------------------

function setUpTable() {
  const table = one("table"), form = one(".filters");
  if (!table || !form) return;
  const body = one("tbody", table), rows = all("tr", body), sections = one(".files");
  const articles = new Map(all("article").map(article => [article.dataset.file, article]));

  function filter() {
    const data = new FormData(form);
    const words = String(data.get("words") || "").toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const visible = words.every(word => text.includes(word)) &&
        (!data.get("group") || row.dataset.group === data.get("group")) &&
        (!data.get("status") || row.dataset.status === data.get("status"));
      row.hidden = !visible;
      const article = articles.get(row.dataset.file);
      if (article) article.hidden = !visible;
      shown += visible;
    }
    one("output", form).textContent = `${shown} of ${rows.length}`;
  }

  function sort(header) {
    const column = [...header.parentNode.children].indexOf(header);
    const down = header.getAttribute("aria-sort") === "ascending";
    const number = header.classList.contains("number");
    const value = row => row.children[column].dataset.value;
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (!number) return x.localeCompare(y, undefined, { numeric: true });
      if (x === "" || y === "") return (x === "") - (y === "") || 0;
      return Number(x) - Number(y);
    };
    const empty = row => number && value(row) === "";
    const ordered = [...rows].sort((a, b) =>
      empty(a) || empty(b) ? empty(a) - empty(b) : (down ? compare(b, a) : compare(a, b)));
    for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    for (const row of ordered) {
      body.append(row);
      const article = articles.get(row.dataset.file);
      if (article) sections.append(article);
    }
  }

  form.addEventListener("input", filter);
  form.addEventListener("submit", event => event.preventDefault());
  for (const header of all("thead th", table)) one("button", header).addEventListener("click", () => sort(header));
  window.addEventListener("hashchange", () => {
    const target = document.getElementById(location.hash.slice(1));
    if (target) target.focus({ preventScroll: true });
  });
}

// ---- photos -------------------------------------------------------------------------------------

function setUpPhoto(photo) {
  const compare = one(".compare", photo), slider = one(".slider", photo);
  if (slider) slider.addEventListener("input", () => compare.style.setProperty("--split", `${slider.value}%`));
  const panes = all(".pane", photo);
  if (!panes.length) return;
  const images = panes.map(pane => one("img", pane));
  const { width, height, left, top } = Object.fromEntries(
    Object.entries(photo.dataset).map(([name, value]) => [name, Number(value)]));
  const frame = one(".frame", compare);
  const canvases = panes.map(pane => {
    const canvas = document.createElement("canvas");
    pane.append(canvas);
    one("img", pane).hidden = true;
    return canvas;
  });
  let zoom = 2, x = null, y = null;

  function draw() {
    const side = images[0].naturalWidth, tall = images[0].naturalHeight;
    if (!side || !panes[0].clientWidth) return;
    const pixels = panes[0].clientWidth, seen = pixels / zoom;
    if (x === null) [x, y] = [side / 2, tall / 2];
    x = seen >= side ? side / 2 : clamp(x, seen / 2, side - seen / 2);
    y = seen >= tall ? tall / 2 : clamp(y, seen / 2, tall - seen / 2);
    const density = window.devicePixelRatio || 1;
    canvases.forEach((canvas, index) => {
      canvas.width = canvas.height = Math.round(pixels * density);
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.scale(zoom * density, zoom * density);
      context.drawImage(images[index], seen / 2 - x, seen / 2 - y);
    });
    const [w, h] = [Math.min(seen, side), Math.min(seen, tall)];
    Object.assign(frame.style, {
      display: "block",
      left: `${100 * (left + x - w / 2) / width}%`, top: `${100 * (top + y - h / 2) / height}%`,
      width: `${100 * w / width}%`, height: `${100 * h / height}%`,
    });
  }

  const buttons = all("[data-zoom]", photo);
  function setZoom(value) {
    zoom = clamp(value, 1, 4);
    for (const button of buttons) button.setAttribute("aria-pressed", String(Number(button.dataset.zoom) === zoom));
    draw();
  }
  for (const button of buttons) button.addEventListener("click", () => setZoom(Number(button.dataset.zoom)));
  for (const pane of panes) {
    let from = null;
    pane.addEventListener("pointerdown", event => {
      from = [event.clientX + x * zoom, event.clientY + y * zoom];
      pane.setPointerCapture(event.pointerId);
    });
    pane.addEventListener("pointermove", event => {
      if (!from) return;
      [x, y] = [(from[0] - event.clientX) / zoom, (from[1] - event.clientY) / zoom];
      draw();
    });
    for (const end of ["pointerup", "pointercancel"]) pane.addEventListener(end, () => { from = null; });
    pane.addEventListener("keydown", event => {
      const step = 16 / zoom;
      const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
      if (moves[event.key]) [x, y] = [x + moves[event.key][0], y + moves[event.key][1]];
      else if (event.key === "+" || event.key === "=") return setZoom(zoom * 2);
      else if (event.key === "-") return setZoom(zoom / 2);
      else return;
      event.preventDefault();
      draw();
    });
  }
  Promise.all(images.map(image => image.decode().catch(() => null))).then(draw);
  new ResizeObserver(draw).observe(panes[0]);
}

// ---- recordings ---------------------------------------------------------------------------------

let sounding = null; // the player that plays

function setUpSound(sound) {
  const sources = all("audio", sound).map(audio => audio.src);
  const play = one(".play", sound), picks = all(".pick", sound), seek = one(".seek", sound);
  const time = one(".time", sound), heads = all(".head", sound);
  let context = null, buffers = null, gains = [], playing = [], started = 0, offset = 0, picked = 0;
  let duration = Number(sound.dataset.duration);

  const bytes = uri => Uint8Array.from(atob(uri.slice(uri.indexOf(",") + 1)), letter => letter.charCodeAt(0)).buffer;
  const at = () => playing.length ? Math.min(duration, offset + context.currentTime - started) : offset;

  async function load() {
    context = new AudioContext();
    buffers = await Promise.all(sources.map(source => context.decodeAudioData(bytes(source))));
    duration = Math.min(...buffers.map(buffer => buffer.duration));
    gains = buffers.map((_, index) => {
      const gain = context.createGain();
      gain.gain.value = index === picked ? 1 : 0;
      gain.connect(context.destination);
      return gain;
    });
  }

  // All signals run together from one moment; choosing one only moves the gains, over 10 ms.
  async function start() {
    if (!buffers) await load();
    await context.resume();
    if (sounding && sounding !== stop) sounding();
    sounding = stop;
    if (offset >= duration - 0.02) offset = 0;
    const begin = context.currentTime + 0.03;
    playing = buffers.map((buffer, index) => {
      const source = context.createBufferSource();
      source.buffer = buffer;
      source.connect(gains[index]);
      source.start(begin, offset);
      return source;
    });
    started = begin;
    play.textContent = "Pause";
    requestAnimationFrame(follow);
  }

  function stop() {
    offset = at();
    for (const source of playing) source.stop();
    playing = [];
    play.textContent = "Play";
    show();
  }

  function show() {
    const share = duration ? at() / duration : 0;
    time.textContent = `${Math.max(0, at()).toFixed(1)} s`;
    if (document.activeElement !== seek || playing.length) seek.value = String(1000 * share);
    for (const head of heads) Object.assign(head.style, { display: "block", left: `${100 * share}%` });
  }

  function follow() {
    if (!playing.length) return;
    show();
    if (at() >= duration - 0.01) { stop(); offset = 0; show(); } else requestAnimationFrame(follow);
  }

  function choose(index) {
    picked = (index + picks.length) % picks.length;
    picks.forEach((pick, number) => {
      pick.setAttribute("aria-checked", String(number === picked));
      pick.tabIndex = number === picked ? 0 : -1;
    });
    gains.forEach((gain, number) => gain.gain.setTargetAtTime(number === picked ? 1 : 0, context.currentTime, 0.003));
  }

  function jump(share) {
    const was = playing.length > 0;
    if (was) stop();
    offset = clamp(share, 0, 1) * duration;
    show();
    if (was) start();
  }

  play.addEventListener("click", () => playing.length ? stop() : start());
  seek.addEventListener("input", () => jump(seek.value / 1000));
  picks.forEach((pick, index) => {
    pick.addEventListener("click", () => choose(index));
    pick.addEventListener("keydown", event => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      choose(index + step);
      picks[picked].focus();
    });
  });
  for (const graph of all(".graph", sound)) {
    graph.addEventListener("click", event => {
      const box = graph.getBoundingClientRect();
      jump((event.clientX - box.left) / box.width);
    });
  }
  sound.player = { state: () => ({ at: at(), playing: playing.length, gains: gains.map(gain => gain.gain.value), picked }) };
}

// ---- logs ---------------------------------------------------------------------------------------

function setUpTrace(trace) {
  const width = 800, span = Number(trace.dataset.span), axis = all(".axis span", trace);
  let from = 0, to = 1;

  function levels(text) {
    const raw = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    return new Uint16Array(raw.buffer);
  }
  const channels = all(".channel", trace).map(channel => ({
    element: channel,
    low: Number(channel.dataset.low), high: Number(channel.dataset.high), removed: Number(channel.dataset.removed),
    before: channel.dataset.before, after: channel.dataset.after, peaks: all(".peaks span", channel),
    marks: all(".mark", channel),
  }));

  function outline(count, height, share) {
    const first = Math.max(0, Math.floor(from * (count - 1)) - 1), last = Math.min(count - 1, Math.ceil(to * (count - 1)) + 1);
    const stride = Math.max(1, Math.floor((last - first) / (4 * width)));
    let path = "", pen = "M";
    for (let index = first; index <= last; index += stride) {
      const level = share(index);
      if (level === null) { pen = "M"; continue; }
      path += `${pen}${(width * (index / Math.max(1, count - 1) - from) / (to - from)).toFixed(1)} ${(height * (1 - level)).toFixed(1)}`;
      pen = "L";
    }
    return path;
  }

  function draw() {
    for (const channel of channels) {
      if (typeof channel.before === "string") {
        channel.before = levels(channel.before);
        if (channel.after) channel.after = levels(channel.after);
      }
      const { before, after, element } = channel;
      const known = values => index => values[index] === 65535 ? null : values[index] / 65534;
      one("path.one", element).setAttribute("d", outline(before.length, 160, known(before)));
      if (after) {
        one("path.two", element).setAttribute("d", outline(after.length, 160, known(after)));
        const scale = (channel.high - channel.low) / (2 * (channel.removed || 1) * 65534);
        one("path.three", element).setAttribute("d", outline(Math.min(before.length, after.length), 60, index =>
          before[index] === 65535 || after[index] === 65535 ? null : 0.5 + (before[index] - after[index]) * scale));
      }
      for (const mark of channel.marks) {
        const [a, b] = [Number(mark.dataset.a), Number(mark.dataset.b)].map(share => width * (share - from) / (to - from));
        mark.setAttribute("x", a);
        mark.setAttribute("width", b - a);
      }
    }
    place();
    axis[0].textContent = number(from * span);
    axis[1].textContent = `${number(to * span)} ${trace.dataset.unit}`;
  }

  function place() {
    for (const { peaks } of channels) {
      for (const peak of peaks) {
        const share = (Number(peak.dataset.at) - from) / (to - from);
        peak.style.left = `${100 * share}%`;
        peak.hidden = share < 0 || share > 1;
      }
    }
  }

  const number = value => String(Number(value.toPrecision(6)));
  function show(start, stop) {
    const length = clamp(stop - start, Math.min(1, 8 / Math.max(8, Number(trace.dataset.length))), 1);
    from = clamp(start, 0, 1 - length);
    to = from + length;
    draw();
  }

  const steps = {
    in: () => show(from + (to - from) / 4, to - (to - from) / 4),
    out: () => show(from - (to - from) / 2, to + (to - from) / 2),
    left: () => show(from - (to - from) / 2, to - (to - from) / 2),
    right: () => show(from + (to - from) / 2, to + (to - from) / 2),
    all: () => show(0, 1),
  };
  for (const button of all("[data-step]", trace)) button.addEventListener("click", steps[button.dataset.step]);
  for (const drawing of all("svg", trace)) {
    let began = null, selection = null;
    const share = event => {
      const box = drawing.getBoundingClientRect();
      return clamp((event.clientX - box.left) / box.width, 0, 1);
    };
    drawing.addEventListener("pointerdown", event => {
      began = share(event);
      drawing.setPointerCapture(event.pointerId);
      selection = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      selection.setAttribute("class", "selection");
      selection.setAttribute("height", 160);
      drawing.append(selection);
    });
    drawing.addEventListener("pointermove", event => {
      if (began === null) return;
      selection.setAttribute("x", width * Math.min(began, share(event)));
      selection.setAttribute("width", width * Math.abs(began - share(event)));
    });
    drawing.addEventListener("pointerup", event => {
      if (began === null) return;
      const [a, b] = [Math.min(began, share(event)), Math.max(began, share(event))];
      selection.remove();
      began = null;
      if (b - a > 0.01) show(from + a * (to - from), from + b * (to - from));
    });
    drawing.addEventListener("pointercancel", () => { if (selection) selection.remove(); began = null; });
  }
  place();
  trace.zoomed = () => [from, to];
}

function setUp(root) {
  all(".photo", root).forEach(setUpPhoto);
  all(".sound", root).forEach(setUpSound);
  all(".trace", root).forEach(setUpTrace);
}

document.documentElement.classList.add("scripted");
setUpTable();
setUp(document);
