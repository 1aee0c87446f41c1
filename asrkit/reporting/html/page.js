"use strict";

/* The page's program. Python wrote the figures (#figures) and parts, which are read when they are needed:
   t0, t1, ... transcripts, d0_0, d0_1, ... (d1_0, ... of a second system) details, a0, a1, ... audio. Text from outside is only ever set as text. */

const F = JSON.parse(document.getElementById("figures").textContent);
const GAP = " ";
const KINDS = { sub: "substitution", ins: "insertion", del: "deletion" };

// ---------------------------------------------------------------- elements

/** An element with properties and children; text stays text. */
function el(tag, props, ...children) {
  const element = tag === "svg" || el.svg.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") element.style.cssText = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}
el.svg = new Set(["g", "path", "rect", "circle", "line", "text", "title"]);

const bdi = (text) => el("bdi", { dir: "auto" }, text);
const number = (value, digits = 2) =>
  value === null || value === undefined ? "–" : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "−");
const count = (value) => number(value, 0);
const say = (text) => { document.getElementById("status").textContent = text; };

// ---------------------------------------------------------------- parts

const received = new Map(); // how to pass on what a script beside the page brings
function asrkitPart(name, content) { received.get(name)(content); }

const parts = new Map();
/** The value of a part, a promise. */
function part(name) {
  if (!parts.has(name)) parts.set(name, load(name));
  return parts.get(name);
}

async function load(name) {
  let content;
  if (F.beside) {
    content = await new Promise((resolve, reject) => {
      received.set(name, resolve);
      const file = `${F.beside}/${name}.js`;
      const fail = () => reject(new Error(`${file} is missing; it belongs to this page, beside which it must lie`));
      document.head.append(el("script", { src: file, onerror: fail }));
    });
  } else content = document.getElementById(name).textContent;
  const stream = new Blob([bytes(content)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

function bytes(base64) {
  const text = atob(base64);
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) out[i] = text.charCodeAt(i);
  return out;
}

// ---------------------------------------------------------------- phones

const symbolOf = new Map(); // character -> {symbol, ipa, manner, rank}
const charOf = new Map(); // symbol or IPA -> character
F.symbols.forEach((row, index) => {
  const char = String.fromCharCode(F.first_char + index);
  symbolOf.set(char, row);
  charOf.set(row.symbol, char);
});
F.symbols.forEach((row) => { if (!charOf.has(row.ipa)) charOf.set(row.ipa, charOf.get(row.symbol)); });
const hasIpa = F.symbols.some((row) => row.ipa !== row.symbol);
let inIpa = false;

const nameOf = (char) => {
  if (char === GAP) return "–";
  const row = symbolOf.get(char);
  return inIpa ? row.ipa : row.symbol;
};
/** A phone; it changes when the alphabet is changed. */
const phone = (char) => (char === GAP ? el("bdi", {}, "–") : el("bdi", { dir: "auto", "data-char": char }, nameOf(char)));

function setAlphabet(ipa) {
  inIpa = ipa;
  for (const each of document.querySelectorAll("bdi[data-char]")) each.textContent = nameOf(each.dataset.char);
  for (const each of document.querySelectorAll("[data-label]")) relabel(each);
}
/** Labels of cells and pictures are made anew, as phones are in them. */
const labels = new WeakMap();
function labelled(element, make) {
  element.dataset.label = "";
  labels.set(element, make);
  relabel(element);
  return element;
}
const relabel = (element) => element.setAttribute("aria-label", labels.get(element)());

const optional = new Set(F.optional);
/** "hit", "sub", "ins" or "del"; "free" for what costs nothing. */
function kindOf(ref, hyp) {
  if (ref === hyp) return "hit";
  if (ref === GAP) return optional.has(hyp) ? "free" : "ins";
  if (hyp === GAP) return optional.has(ref) ? "free" : "del";
  return "sub";
}

// ---------------------------------------------------------------- utterances

/** An utterance by its number: {n, utt, spk, ref, hyp} and its errors, places in the alignment. */
async function utterance(n) {
  const rows = await part(`t${Math.floor(n / F.utts_a_part)}`);
  return entry(rows, n);
}

/** What a system made of an utterance; of two that are compared the other one's is in `others`. */
function entry(rows, n, system = 0) {
  const at = n % F.utts_a_part;
  const ref = rows.ref[system][at], hyp = rows.hyp[system][at];
  const errors = [];
  let tokens = 0;
  for (let i = 0; i < ref.length; i += 1) {
    if (ref[i] !== GAP) tokens += 1;
    const kind = kindOf(ref[i], hyp[i]);
    if (kind !== "hit" && kind !== "free") errors.push(i);
  }
  const others = system + 1 < F.systems.length ? [entry(rows, n, system + 1)] : [];
  return { n, system, utt: rows.utt[at], spk: rows.spk[at], ref, hyp, errors, tokens, others };
}

let everything = null;
/** All utterances, a promise. */
function all() {
  everything ??= (async () => {
    const out = [];
    for (let first = 0; first < F.num_utts; first += F.utts_a_part) {
      const rows = await part(`t${first / F.utts_a_part}`);
      for (let at = 0; at < rows.utt.length; at += 1) out.push(entry(rows, first + at));
      if (F.beside) say(`${count(out.length)} of ${count(F.num_utts)} utterances read`);
    }
    return out;
  })();
  return everything;
}

const rate = (utt) => (utt.tokens ? (100 * utt.errors.length) / utt.tokens : utt.errors.length ? Infinity : 0);
const perText = (utt) => `${utt.tokens ? number(rate(utt), 1) : "–"} % [ ${utt.errors.length} / ${utt.tokens} ]`;
const ratesText = (utt) => (utt.others.length ? `A ${perText(utt)} · B ${perText(utt.others[0])}` : perText(utt));
const audible = new Set(F.audio);

/** Numbers that are characters, or a list where one is too large for that. */
const numbersOf = (packed) => (typeof packed === "string" ? Array.from(packed, (char) => char.charCodeAt(0) - F.first_char) : packed);

async function detailsOf(utt) {
  const row = (await part(`d${utt.system}_${Math.floor(utt.n / F.details_a_part)}`))[utt.n % F.details_a_part];
  return { ...row, ref: numbersOf(row.ref), hyp: numbersOf(row.hyp), conf: numbersOf(row.conf) };
}

/** Where each pair of an alignment is, [start, end] in seconds, or null: as found, else as it truly is, else between. */
function spansOf(utt, details) {
  const placed = (list, side) => {
    let start = 0, k = 0;
    return [...side].map((char) => {
      if (!list || char === GAP) return null;
      start += list[k++];
      return [start / 1000, (start + list[k++]) / 1000];
    });
  };
  const refs = placed(details.ref, utt.ref), hyps = placed(details.hyp, utt.hyp);
  const spans = hyps.map((span, i) => {
    if (span || refs[i]) return span || refs[i];
    const before = hyps.slice(0, i).findLast(Boolean), after = hyps.slice(i + 1).find(Boolean);
    if (!before && !after) return null;
    return [before ? (before[0] + before[1]) / 2 : 0, after ? (after[0] + after[1]) / 2 : before[1]];
  });
  return { refs, hyps, spans };
}

// ---------------------------------------------------------------- sound

let context = null, playing = null;
const decoded = new Map();

function oggOf(n) { return bytes(document.getElementById(`a${n}`).textContent); }

/** The samples of an utterance, an AudioBuffer at 16 kHz. */
function samplesOf(n) {
  if (!decoded.has(n)) {
    if (decoded.size > 20) decoded.delete(decoded.keys().next().value);
    decoded.set(n, new OfflineAudioContext(1, 1, 16000).decodeAudioData(oggOf(n).buffer));
  }
  return decoded.get(n);
}

function stop() {
  if (!playing) return;
  playing.source.onended = null;
  playing.source.stop();
  playing.finish();
}

/** Play a stretch of an utterance; `needle` is moved along it. */
async function play(utt, [start, end], what, needle) {
  stop();
  for (const each of document.querySelectorAll("audio")) each.pause();
  context ??= new AudioContext();
  context.resume();
  const buffer = await samplesOf(utt.n);
  const from = Math.max(0, start - 0.04), to = Math.min(buffer.duration, Math.max(end, start + 0.03) + 0.04);
  const source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(context.destination);
  source.start(0, from, to - from);
  const began = context.currentTime;
  const finish = () => { playing = null; if (needle) needle.hidden = true; };
  playing = { source, finish };
  source.onended = finish;
  document.body.dataset.played = `${utt.utt} ${from.toFixed(3)} ${to.toFixed(3)}`;
  say(`${what}, ${number(start)} to ${number(end)} seconds`);
  const move = () => {
    if (!playing || playing.source !== source || !needle) return;
    needle.hidden = false;
    needle.style.left = `${(100 * (from + context.currentTime - began)) / buffer.duration}%`;
    requestAnimationFrame(move);
  };
  move();
}

// ---------------------------------------------------------------- an utterance in detail

/** Summary and, once it is opened, all that there is of an utterance. `here`: a place in its alignment. */
function utteranceItem(utt, here) {
  const body = el("div", { class: "body" });
  const context = here === undefined ? null : el("span", {}, " ", contextOf(utt, here));
  const heard = audible.has(utt.n) ? el("span", { title: "can be heard" }, " ♪") : null;
  const item = el("details", { class: "utt", "data-n": utt.n },
    el("summary", {}, bdi(utt.utt), heard, el("span", { class: "soft" }, " ", bdi(utt.spk), ` · ${ratesText(utt)}`), context),
    body);
  item.addEventListener("toggle", async () => {
    if (!item.open || body.childElementCount) return;
    try {
      const shown = [];
      for (const each of [utt, ...utt.others]) {
        if (utt.others.length) shown.push(el("h4", {}, `${"AB"[each.system]}: ${perText(each)}`));
        shown.push(...await fill(each, here));
      }
      body.replaceChildren(...shown);
    } catch (error) {
      body.replaceChildren(el("p", { class: "warning" }, error.message));
    }
    item.dispatchEvent(new CustomEvent("filled"));
  });
  return item;
}

function contextOf(utt, here) {
  const pairs = [];
  for (let i = Math.max(0, here - 3); i < Math.min(utt.ref.length, here + 4); i += 1) {
    if (i !== here) { if (utt.hyp[i] !== GAP) pairs.push(phone(utt.hyp[i]), " "); continue; }
    pairs.push(el("strong", {}, "[", phone(utt.ref[i]), " → ", phone(utt.hyp[i]), "]"), " ");
  }
  return el("span", { dir: "ltr" }, pairs);
}

async function fill(utt, here) {
  const details = await detailsOf(utt);
  const places = spansOf(utt, details);
  const isHeard = audible.has(utt.n);
  const buffer = isHeard ? await samplesOf(utt.n) : null;
  const needle = el("div", { class: "needle", hidden: true });
  const listen = (i) => () => {
    stop();
    play(utt, places.spans[i], `${nameOf(utt.ref[i])}, found ${nameOf(utt.hyp[i])}`, needle);
  };
  const canPlay = (i) => isHeard && places.spans[i];
  const out = [alignment(utt, here, canPlay, listen)];
  const time = timeFigure(utt, details, places, buffer, needle, { here, canPlay, listen });
  if (time) out.push(time);
  if (isHeard && !utt.others.length) {
    const url = URL.createObjectURL(new Blob([oggOf(utt.n)], { type: "audio/ogg" }));
    const player = el("audio", { controls: true, preload: "metadata", src: url, "aria-label": `Utterance ${utt.utt}` });
    player.addEventListener("play", stop);
    player.addEventListener("timeupdate", () => {
      needle.hidden = player.paused;
      needle.style.left = `${(100 * player.currentTime) / buffer.duration}%`;
    });
    const stretch = here !== undefined && places.spans[here]
      ? el("button", { type: "button", class: "stretch", onclick: listen(here) }, "▶ this stretch") : null;
    out.push(el("p", { class: "tools" }, stretch, player));
  } else if (!isHeard && !utt.others.length) {
    out.push(el("p", { class: "soft" }, F.missing[utt.utt] ? `No audio: ${F.missing[utt.utt]}` :
      `No audio: the page holds that of ${count(F.audio.length)} utterances (--audio N).`));
  }
  if (details.ref || details.hyp) out.push(timesTable(utt, details, places));
  return out;
}

function alignment(utt, here, canPlay, listen) {
  const side = el("div", { class: "side", "aria-hidden": "true" }, el("span", {}, "true"), el("span", {}, "found"), el("span"));
  const pairs = [];
  for (let i = 0; i < utt.ref.length; i += 1) {
    const kind = kindOf(utt.ref[i], utt.hyp[i]);
    const button = el("button", {
      type: "button", class: `pair ${kind}${i === here ? " here" : ""}`, disabled: !canPlay(i), onclick: listen(i),
    }, phone(utt.ref[i]), phone(utt.hyp[i]), el("span", { class: "kind" }, KINDS[kind] ? kind : ""));
    pairs.push(labelled(button, () => kind === "hit" ? nameOf(utt.ref[i]) :
      kind === "sub" ? `substitution: ${nameOf(utt.ref[i])} found as ${nameOf(utt.hyp[i])}` :
      utt.ref[i] === GAP ? `insertion: ${nameOf(utt.hyp[i])}` : `deletion: ${nameOf(utt.ref[i])}`));
  }
  return el("div", { class: "aligned", role: "group", "aria-label": "Reference above, hypothesis below" }, side, pairs);
}

function timeFigure(utt, details, places, buffer, needle, { here, canPlay, listen }) {
  const ends = [...places.refs, ...places.hyps].filter(Boolean).map((span) => span[1]);
  const seconds = buffer ? buffer.duration : Math.max(0, ...ends, details.steps ? details.steps * F.systems[utt.system].step : 0);
  if (!seconds) return null;
  const inside = el("div", { class: "inside", style: `min-width:${Math.ceil(seconds * 150)}px` });
  if (buffer) {
    const canvas = el("canvas", { role: "img", height: ROWS, class: "spectrogram",
      "aria-label": `Spectrogram of ${utt.utt}: ${number(seconds)} seconds, 0 to 8 kHz` });
    const heights = [8, 6, 4, 2].map((kHz) => el("span", { class: "name", "aria-hidden": "true", style: `top:${(1 - kHz / 8) * ROWS}px` }, `${kHz} kHz`));
    inside.append(el("div", { class: "names" }, heights), canvas);
    later(canvas, () => drawSpectrogram(canvas, buffer));
  }
  const tiers = [["true", places.refs, utt.ref, null], ["found", places.hyps, utt.hyp, details.conf]];
  for (const [name, spans, chars, confidences] of tiers) {
    if (!spans.some(Boolean)) continue;
    let h = 0;
    const tier = el("div", { class: `tier named ${name}` }, el("div", { class: "names" }, el("span", { class: "name" }, name)));
    spans.forEach((span, i) => {
      const confidence = confidences && chars[i] !== GAP ? confidences[h++] : null;
      if (!span) return;
      const shade = confidence === null ? 0.12 : 0.05 + 0.4 * (confidence / 100);
      const label = el("button", {
        type: "button", disabled: !canPlay(i), onclick: listen(i), tabindex: -1,
        class: `label${kindOf(utt.ref[i], utt.hyp[i]) === "hit" ? "" : " wrong"}`,
        title: `${number(span[0])} to ${number(span[1])} s${confidence === null ? "" : `, confidence ${confidence} %`}`,
        style: `left:${(100 * span[0]) / seconds}%;width:${(100 * (span[1] - span[0])) / seconds}%;--shade:${shade}`,
      }, phone(chars[i]));
      tier.append(label);
    });
    inside.append(tier);
  }
  if (details.post) inside.append(posteriorgram(details, seconds, F.systems[utt.system]));
  if (details.look) inside.append(attention(details, seconds, F.systems[utt.system]));
  if (here !== undefined && places.spans[here]) {
    const [start, end] = places.spans[here];
    inside.append(el("div", { class: "here-span", style: `left:${(100 * start) / seconds}%;width:${(100 * (end - start)) / seconds}%` }));
  }
  inside.append(needle);
  const time = el("div", { class: "time", tabindex: 0, role: "group" }, inside);
  if (here !== undefined && places.spans[here]) {
    later(time, () => { time.scrollLeft = (places.spans[here][0] / seconds) * time.scrollWidth - time.clientWidth / 2; });
  }
  const shown = [buffer && "spectrogram", places.refs.some(Boolean) && "true phones", places.hyps.some(Boolean) &&
    (details.conf ? "phones found, shaded by confidence" : "phones found"), details.post && "posteriors",
    details.look && "attention: where the decoder looked when it wrote each phone found, from top to bottom"].filter(Boolean);
  time.setAttribute("aria-label", `Over time: ${shown.join(", ")}`);
  return el("figure", {}, time, el("figcaption", {}, `${number(seconds)} s: ${shown.join("; ")}.`));
}

/** Draw when the element has a width. */
function later(canvas, draw) {
  new ResizeObserver((_, observer) => {
    if (canvas.clientWidth) { observer.disconnect(); draw(); }
  }).observe(canvas);
}

const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;

const ROWS = 192; // of a spectrogram

/** With a window of 10 ms, which shows the formants of a voice and not its harmonics. */
function drawSpectrogram(canvas, buffer) {
  const samples = buffer.getChannelData(0), size = 512, window = 160;
  const columns = Math.min(Math.round(canvas.clientWidth * Math.min(devicePixelRatio, 2)), Math.ceil(samples.length / 40));
  const rows = ROWS;
  canvas.width = columns;
  canvas.height = rows;
  const level = new Float32Array(columns * rows);
  const re = new Float32Array(size), im = new Float32Array(size);
  let top = -Infinity;
  for (let column = 0; column < columns; column += 1) {
    const middle = ((column + 0.5) * samples.length) / columns;
    re.fill(0); im.fill(0);
    for (let i = 0; i < window; i += 1) {
      const at = Math.round(middle - window / 2 + i);
      if (at < 1 || at >= samples.length) continue;
      re[i] = (samples[at] - 0.97 * samples[at - 1]) * (0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 0.5)) / window));
    }
    fft(re, im);
    for (let row = 0; row < rows; row += 1) {
      const bin = Math.round(((rows - row - 0.5) / rows) * (size / 2)), power = re[bin] ** 2 + im[bin] ** 2;
      const db = 10 * Math.log10(power + 1e-12);
      level[row * columns + column] = db;
      if (db > top) top = db;
    }
  }
  const drawing = canvas.getContext("2d"), image = drawing.createImageData(columns, rows), dark = isDark();
  for (let i = 0; i < level.length; i += 1) {
    const share = Math.min(1, Math.max(0, (level[i] - top + 65) / 65)) ** 1.3;
    const gray = dark ? 24 + 216 * share : 255 - 240 * share;
    image.data.set([gray, gray, gray, 255], 4 * i);
  }
  drawing.putImageData(image, 0, 0);
}

/** Fourier transform in place; the length is a power of two. */
function fft(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i += 1) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) { [re[i], re[j]] = [re[j], re[i]]; [im[i], im[j]] = [im[j], im[i]]; }
  }
  for (let length = 2; length <= n; length <<= 1) {
    const angle = (-2 * Math.PI) / length, half = length / 2;
    for (let k = 0; k < half; k += 1) {
      const c = Math.cos(angle * k), s = Math.sin(angle * k);
      for (let i = k; i < n; i += length) {
        const x = re[i + half] * c - im[i + half] * s, y = re[i + half] * s + im[i + half] * c;
        re[i + half] = re[i] - x; im[i + half] = im[i] - y;
        re[i] += x; im[i] += y;
      }
    }
  }
}

const code = (text, i) => text.charCodeAt(i) - F.first_char;

function posteriorgram(details, seconds, network) {
  const [numbers, tokens, values] = details.post;
  const entries = [], best = new Map();
  for (let step = 0, at = 0; step < details.steps; step += 1) {
    for (let left = code(numbers, step); left > 0; left -= 1, at += 1) {
      const char = network.tokens[code(tokens, at)], value = code(values, at) / F.levels;
      entries.push([step, char, value]);
      best.set(char, Math.max(value, best.get(char) || 0));
    }
  }
  const chars = [...best.keys()].filter((char) => best.get(char) >= 0.15)
    .sort((a, b) => symbolOf.get(a).rank - symbolOf.get(b).rank);
  const rowOf = new Map(chars.map((char, row) => [char, row]));
  const cells = entries.filter(([, char]) => rowOf.has(char)).map(([step, char, value]) => [step, rowOf.get(char), value]);
  const label = () => `Posteriors of the network over time, of ${chars.map(nameOf).join(", ")}`;
  return overSteps("posteriors", cells, chars.map(phone), label, seconds, network);
}

/** Where the decoder looked: a row for each phone found, and one for the end. */
function attention(details, seconds, network) {
  const [chars, numbers, steps, values] = details.look;
  const cells = [];
  for (let row = 0, at = 0; row <= chars.length; row += 1) {
    for (let left = code(numbers, row); left > 0; left -= 1, at += 1) cells.push([code(steps, at), row, code(values, at) / F.levels]);
  }
  const label = () => `Attention weights over time, of ${[...chars].map(nameOf).join(", ")} and the end`;
  return overSteps("attention", cells, [...[...chars].map(phone), el("i", {}, "end")], label, seconds, network);
}

/** Rows with names, and cells [step, row, share] in them, at the times of the network's steps. */
function overSteps(kind, cells, names, label, seconds, network) {
  const height = 15;
  const canvas = el("canvas", { role: "img", class: kind, style: `height:${names.length * height}px` });
  labelled(canvas, label);
  later(canvas, () => {
    const scale = Math.min(devicePixelRatio, 2), width = canvas.clientWidth;
    canvas.width = width * scale;
    canvas.height = names.length * height * scale;
    const drawing = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    drawing.scale(scale, scale);
    const accent = style.getPropertyValue("--accent").trim().split(/\s+/).join(","), line = style.getPropertyValue("--line");
    names.forEach((_, row) => { drawing.fillStyle = line; drawing.fillRect(0, row * height, width, 0.5); });
    for (const [step, row, value] of cells) {
      drawing.fillStyle = `rgba(${accent},${0.15 + 0.85 * value})`;
      const left = ((network.first + (step - 0.5) * network.step) / seconds) * width;
      drawing.fillRect(left, row * height + 1, Math.max(1, (network.step / seconds) * width), height - 1);
    }
  });
  const rows = names.map((name, row) => el("span", { class: "name", "aria-hidden": "true", style: `top:${row * height}px;line-height:${height}px` }, name));
  return el("div", { class: "tier", style: "height:auto" }, el("div", { class: "names" }, rows), canvas);
}

function timesTable(utt, details, places) {
  const item = el("details", {}, el("summary", { class: "soft" }, "Times as a table"));
  item.addEventListener("toggle", () => {
    if (!item.open || item.childElementCount > 1) return;
    let h = 0;
    const rows = [...utt.ref].map((char, i) => ({
      ref: char, hyp: utt.hyp[i], kind: kindOf(char, utt.hyp[i]), a: places.refs[i], b: places.hyps[i],
      conf: utt.hyp[i] !== GAP && details.conf ? details.conf[h++] : null,
    }));
    const seconds = (span, at) => (span ? number(span[at], 3) : "–");
    item.append(el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, ["true", "start", "end", "found", "start", "end", "confidence, %", ""].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, el("td", {}, phone(row.ref)), el("td", { class: "number" }, seconds(row.a, 0)),
        el("td", { class: "number" }, seconds(row.a, 1)), el("td", {}, phone(row.hyp)), el("td", { class: "number" }, seconds(row.b, 0)),
        el("td", { class: "number" }, seconds(row.b, 1)), el("td", { class: "number" }, row.conf === null ? "–" : row.conf),
        el("td", {}, KINDS[row.kind] || "")))))));
  });
  return item;
}

// ---------------------------------------------------------------- tables

/** A table that is sorted by a click on a column's head, and searched. Columns: {name, of, show, digits}. */
function table(caption, columns, rows, { search = false, limit = 100 } = {}) {
  let order = null, query = "", shown = limit;
  const body = el("tbody"), more = el("p", { class: "more" });
  const heads = columns.map((column, place) => el("th", { scope: "col", class: column.digits === undefined ? "" : "number" },
    el("button", { type: "button", onclick: () => sortBy(place) }, column.name)));
  const text = (row) => columns.map((column) => String(column.of(row) ?? "")).join(" ").toLocaleLowerCase();
  const cell = (column, row) => {
    const value = column.of(row);
    return el(column === columns[0] ? "th" : "td", { scope: column === columns[0] ? "row" : null, class: column.digits === undefined ? "" : "number" },
      column.show ? column.show(row) : column.digits === undefined ? bdi(String(value)) : number(value, column.digits));
  };
  function sortBy(place) {
    const first = columns[place].digits === undefined ? 1 : -1;
    order = { place, sign: order && order.place === place ? -order.sign : first };
    heads.forEach((head, i) => {
      if (i === place) head.setAttribute("aria-sort", order.sign > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    draw();
  }
  function draw() {
    let kept = query ? rows.filter((row) => text(row).includes(query)) : [...rows];
    if (order) {
      const { of } = columns[order.place];
      const compare = (a, b) => (a === b ? 0 : a === null ? 1 : b === null ? -1 : typeof a === "string" ? order.sign * a.localeCompare(b) : order.sign * (a - b));
      kept.sort((a, b) => compare(of(a), of(b)));
    }
    body.replaceChildren(...kept.slice(0, shown).map((row) => el("tr", {}, columns.map((column) => cell(column, row)))));
    more.replaceChildren(...(kept.length > shown ? [el("button", { type: "button", onclick: () => { shown += 10 * limit; draw(); } },
      `Show more (${count(kept.length - shown)} are left)`)] : []));
  }
  draw();
  const find = search ? el("div", { class: "tools" }, el("label", {}, "Search ", el("input", { type: "search", oninput: (event) => {
    query = event.target.value.trim().toLocaleLowerCase(); draw();
  } }))) : null;
  return el("div", {}, find, el("div", { class: rows.length > 12 ? "scroll tall" : "scroll", tabindex: 0, role: "region", "aria-label": caption },
    el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, heads)), body)), more);
}

const COUNTS = [
  { name: "tokens", of: (row) => row.num_ref, digits: 0 },
  { name: "PER, %", of: (row) => row.per, digits: 2 },
  { name: "ins", of: (row) => row.num_ins, digits: 0 },
  { name: "del", of: (row) => row.num_del, digits: 0 },
  { name: "sub", of: (row) => row.num_sub, digits: 0 },
];
const phoneColumn = (name, of) => ({ name, of, show: (row) => phone(charOf.get(of(row))) });

// ---------------------------------------------------------------- the matrix

/** Rows: true phones, and insertions; columns: phones found, and deletions. */
function matrix(report, choose) {
  const counts = new Map(), totals = new Map();
  const add = (key, value) => { if (value) counts.set(key, value); };
  for (const row of report.phones) {
    const char = charOf.get(row.phone);
    add(char + char, row.num_hits);
    add(char + GAP, row.num_del);
    add(GAP + char, row.num_ins);
    totals.set(char, row.num_ref);
  }
  for (const row of report.confusions) add(charOf.get(row.ref) + charOf.get(row.hyp), row.count);
  const errorsOf = new Map(report.phones.map((row) => [charOf.get(row.phone), row.num_errors]));
  const MOST = 80;
  let chars = [...totals.keys()].sort((a, b) => errorsOf.get(b) - errorsOf.get(a));
  const left = Math.max(0, chars.length - MOST);
  chars = chars.slice(0, MOST).sort((a, b) => symbolOf.get(a).rank - symbolOf.get(b).rank);
  const lines = [...chars, GAP];
  const isFirst = (i) => i > 0 && (lines[i] === GAP || symbolOf.get(lines[i]).manner !== symbolOf.get(lines[i - 1]).manner);
  const most = Math.max(1, ...[...counts].filter(([key]) => key[0] !== key[1]).map(([, value]) => value));

  const cells = lines.map((ref, i) => lines.map((hyp, j) => {
    const value = counts.get(ref + hyp) || 0, kind = ref === hyp ? "hit" : kindOf(ref, hyp);
    const share = ref === hyp ? 0 : Math.sqrt(value / most);
    const cell = el("td", {
      role: "gridcell", tabindex: -1, class: `${kind}${isFirst(j) ? " first-in-row" : ""}`, "data-n": value && ref !== hyp ? value : null,
      style: share ? `background:rgb(var(--accent) / ${(0.06 + 0.5 * share).toFixed(2)})` : "",
    }, value ? count(value) : "");
    if (ref === GAP && hyp === GAP) return cell;
    const share100 = totals.get(ref) ? ` (${number((100 * value) / totals.get(ref), 1)} %)` : "";
    return labelled(cell, () => ref === GAP ? `${nameOf(hyp)} inserted ${value} times` : hyp === GAP ? `${nameOf(ref)} deleted ${value} times${share100}`
      : ref === hyp ? `${nameOf(ref)} right ${value} times${share100}` : `${nameOf(ref)} found as ${nameOf(hyp)} ${value} times${share100}`);
  }));
  const head = (char, i, side) => el("th", {
    scope: side === "col" ? "col" : "row", role: side === "col" ? "columnheader" : "rowheader", class: side === "col" && isFirst(i) ? "first-in-row" : "",
  }, char === GAP ? (side === "col" ? "del" : "ins") : phone(char));
  const grid = el("table", { class: "matrix", role: "grid", style: `--columns:${lines.length + 1}`, "aria-label": "Substitutions: true phones in rows, phones found in columns" },
    el("thead", {}, el("tr", { role: "row" }, el("th", { class: "soft" }, "true ↓ found →"), lines.map((char, i) => head(char, i, "col")))),
    el("tbody", {}, lines.map((char, i) => el("tr", { role: "row", class: isFirst(i) ? "first-in-column" : "" }, head(char, i, "row"), cells[i],
      el("td", { class: "manner", "aria-hidden": "true" }, char === GAP ? "" : i === 0 || isFirst(i) ? F.manners[symbolOf.get(char).manner] : "")))));
  let at = [0, 0];
  const place = (cell) => cells.flatMap((row, i) => row.map((each, j) => [each, [i, j]])).find(([each]) => each === cell)?.[1];
  const go = ([i, j], focus) => {
    cells[at[0]][at[1]].tabIndex = -1;
    at = [i, j];
    cells[i][j].tabIndex = 0;
    if (focus) cells[i][j].focus();
  };
  go(at, false);
  const open = (i, j) => {
    if (lines[i] === lines[j] || !counts.get(lines[i] + lines[j])) return;
    grid.querySelector("[aria-selected]")?.removeAttribute("aria-selected");
    cells[i][j].setAttribute("aria-selected", "true");
    choose(lines[i], lines[j]);
  };
  grid.addEventListener("click", (event) => {
    const found = place(event.target.closest("td"));
    if (found) { go(found, true); open(...found); }
  });
  grid.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const last = lines.length - 1, within = (value) => Math.min(last, Math.max(0, value));
    if (moves[event.key]) go([within(at[0] + moves[event.key][0]), within(at[1] + moves[event.key][1])], true);
    else if (event.key === "Home") go([at[0], 0], true);
    else if (event.key === "End") go([at[0], last], true);
    else if (event.key === "Enter" || event.key === " ") open(...at);
    else return;
    event.preventDefault();
  });
  return { grid, left };
}

function errorsSection(report) {
  const list = el("div", { id: "occurrences", tabindex: -1 }, el("p", { class: "soft more" },
    "Choose a cell, by a click or with arrow keys and Enter: its occurrences come here, to be seen and heard."));
  async function choose(ref, hyp) {
    list.replaceChildren(el("p", {}, "…"));
    const found = [];
    for (const utt of await all()) for (const place of utt.errors) if (utt.ref[place] === ref && utt.hyp[place] === hyp) found.push([utt, place]);
    found.sort(([a], [b]) => audible.has(b.n) - audible.has(a.n));
    const title = el("h3", {}, ref === GAP ? ["Inserted: ", phone(hyp)] : hyp === GAP ? ["Deleted: ", phone(ref)] : [phone(ref), " found as ", phone(hyp)],
      ` (${count(found.length)})`);
    list.replaceChildren(title, listed(found.length, (i) => utteranceItem(...found[i]), 20));
    list.scrollIntoView({ block: "nearest" });
    say(`${found.length} occurrences`);
  }
  const { grid, left } = matrix(report, choose);
  return [
    el("p", {}, "Phones are in the order of IPA's chart: by manner, then by place; unknown symbols come last. The last column counts deletions, the last row insertions."),
    left ? el("p", { class: "soft" }, `The phones with the most errors; ${left} others have no row here, and are in the tables below.`) : null,
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Matrix" }, grid), list,
  ];
}

/** A list that grows by a button. */
function listed(length, make, step) {
  const items = el("div"), more = el("p", { class: "more" });
  const grow = () => {
    const from = items.childElementCount;
    for (let i = from; i < Math.min(length, from + step); i += 1) items.append(make(i));
    const rest = length - items.childElementCount;
    more.replaceChildren(...(rest > 0 ? [el("button", { type: "button", onclick: grow }, `Show more (${count(rest)} are left)`)] : []));
  };
  grow();
  return el("div", {}, items, more);
}

// ---------------------------------------------------------------- finding utterances

/** `lists`: which utterances are shown, [key, name]; `orders`: how, [key, name, compare]. */
function utterancesSection(lists, orders) {
  const list = el("div", { id: "found" });
  const which = el("select", { onchange: () => update() }, lists.map(([value, name]) => el("option", { value }, name)));
  const order = el("select", { onchange: () => update() }, orders.map(([value, name]) => el("option", { value }, name)));
  const query = el("input", { type: "search", placeholder: "id, speaker, or phones: s a", oninput: () => { which.value = "all"; wait(); } });
  let timer = null, turn = 0;
  const wait = () => { clearTimeout(timer); timer = setTimeout(update, 150); };
  async function update() {
    const mine = turn += 1;
    const utts = which.value === "all" ? await all() : await Promise.all(F[which.value].map(utterance));
    if (mine !== turn) return;
    const kept = utts.filter(matcher(query.value));
    const compare = orders.find(([value]) => value === order.value)[2];
    kept.sort((a, b) => compare(a, b) || a.n - b.n);
    list.replaceChildren(el("p", { class: "soft" }, `${count(kept.length)} utterances`), listed(kept.length, (i) => utteranceItem(kept[i]), 20));
    list.dataset.query = query.value;
  }
  update();
  return [el("div", { class: "tools" }, el("label", {}, "Show ", which), el("label", {}, "Order ", order), el("label", {}, "Search ", query)), list];
}

/** Whether an utterance has the text in its id or speaker's name, or the phones one after the other. */
function matcher(query) {
  const text = query.trim().toLocaleLowerCase(), words = query.trim().split(/\s+/);
  if (!text) return () => true;
  const chars = words.every((word) => charOf.has(word)) ? words.map((word) => charOf.get(word)).join("") : null;
  const holds = (side) => side.replaceAll(GAP, "").includes(chars);
  return (utt) => `${utt.utt} ${utt.spk}`.toLocaleLowerCase().includes(text) || (chars !== null && [utt, ...utt.others].some((each) => holds(each.ref) || holds(each.hyp)));
}

const worstFirst = (a, b) => rate(b) - rate(a) || b.errors.length - a.errors.length;
const difference = (utt) => utt.errors.length - utt.others[0].errors.length;
const REPORTED = [
  [["worst", "the worst"], ["sample", "a random sample of the rest"], ["all", "all"]],
  [["rate", "the worst first", worstFirst], ["name", "as in the data", () => 0]],
];
const COMPARED = [
  [["differing", "those that differ most"], ["sample", "a random sample of the rest"], ["all", "all"]],
  [["gap", "the greatest difference first", (a, b) => Math.abs(difference(b)) - Math.abs(difference(a))],
    ["a", "where A is better first", (a, b) => difference(a) - difference(b)], ["b", "where B is better first", (a, b) => difference(b) - difference(a)],
    ["name", "as in the data", () => 0]],
];

// ---------------------------------------------------------------- plots

/** Curves over x. Series: {name, y, line}. */
function plot(title, xName, yName, x, series, { from = null, to = null, diagonal = false } = {}) {
  const width = 560, height = 300, left = 52, bottom = 42, top = 12, right = 12;
  const values = series.flatMap((each) => each.y).filter((value) => value !== null);
  const [x0, x1] = [Math.min(...x), Math.max(...x)], y0 = from ?? Math.min(0, ...values), y1 = to ?? Math.max(...values) * 1.05;
  const px = (value) => left + ((value - x0) / (x1 - x0 || 1)) * (width - left - right);
  const py = (value) => height - bottom - ((value - y0) / (y1 - y0 || 1)) * (height - top - bottom);
  const svg = el("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: ${series.map((each) => each.name).join(", ")} over ${xName}` });
  for (const tick of ticks(y0, y1)) {
    svg.append(el("path", { class: "grid", d: `M${left} ${py(tick)}H${width - right}` }), el("text", { x: left - 6, y: py(tick) + 4, "text-anchor": "end" }, short(tick)));
  }
  for (const tick of ticks(x0, x1)) svg.append(el("text", { x: px(tick), y: height - bottom + 16, "text-anchor": "middle" }, short(tick)));
  svg.append(el("path", { class: "axis", d: `M${left} ${top}V${height - bottom}H${width - right}` }),
    el("text", { x: (left + width) / 2, y: height - 6, "text-anchor": "middle" }, xName),
    el("text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(12 ${height / 2}) rotate(-90)` }, yName));
  if (diagonal) svg.append(el("path", { class: "axis", "stroke-dasharray": "4 4", d: `M${px(x0)} ${py(y0)}L${px(x1)} ${py(y1)}` }));
  series.forEach((each) => {
    const points = (each.x || x).map((value, i) => [value, each.y[i]]).filter(([, value]) => value !== null);
    svg.append(el("path", { class: `line ${each.line}`, d: points.map(([a, b], i) => `${i ? "L" : "M"}${px(a).toFixed(1)} ${py(b).toFixed(1)}`).join("") }));
    for (const [a, b] of points) svg.append(el("circle", { class: `fill-${each.line}`, cx: px(a), cy: py(b), r: 3.5 }, el("title", {}, `${each.name}: ${short(b)} at ${short(a)}`)));
  });
  const legend = series.map((each) => [el("span", { style: `color:var(--${{ a: "link", b: "sub", c: "good" }[each.line]})` }, "● "), each.name, "  "]);
  return el("figure", {}, el("figcaption", {}, title, el("br"), legend), svg);
}

const short = (value) => Number(value.toPrecision(4)).toLocaleString("en");
function ticks(low, high) {
  const rough = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= rough);
  const out = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-6; tick += step) out.push(Math.round(tick / step) * step);
  return out;
}

/** PER over two settings: each point that was tried is a disc, the darker the better. */
function surfacePlot(surface, winner) {
  const width = 560, height = 340, left = 58, bottom = 42, top = 14, right = 14;
  const xs = surface.lm_weight, ys = surface.insertion_bonus, pers = surface.per;
  const best = Math.min(...pers), worst = Math.max(Math.min(Math.max(...pers), 2 * best), best + 1e-6);
  const scale = (values, low, high) => { const [a, b] = [Math.min(...values), Math.max(...values)]; return [a, b, (v) => low + ((v - a) / (b - a || 1)) * (high - low)]; };
  const [x0, x1, px] = scale(xs, left + 14, width - right - 10), [y0, y1, py] = scale(ys, height - bottom - 14, top + 10);
  const svg = el("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label":
    `Dev PER over language model weight and insertion bonus; lowest ${number(best)} % at weight ${winner.lm_weight}, bonus ${winner.insertion_bonus}` });
  for (const tick of ticks(x0, x1)) svg.append(el("text", { x: px(tick), y: height - bottom + 18, "text-anchor": "middle" }, short(tick)));
  for (const tick of ticks(y0, y1)) svg.append(el("text", { x: left - 8, y: py(tick) + 4, "text-anchor": "end" }, short(tick)));
  svg.append(el("path", { class: "axis", d: `M${left} ${top}V${height - bottom}H${width - right}` }),
    el("text", { x: (left + width) / 2, y: height - 6, "text-anchor": "middle" }, "language model weight"),
    el("text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(14 ${height / 2}) rotate(-90)` }, "insertion bonus, nats"));
  pers.forEach((per, i) => {
    const share = Math.max(0, 1 - (per - best) / (worst - best));
    const isBest = xs[i] === winner.lm_weight && ys[i] === winner.insertion_bonus;
    svg.append(el("circle", { cx: px(xs[i]), cy: py(ys[i]), r: isBest ? 10 : 8, style: `fill:rgb(var(--accent) / ${(0.05 + 0.9 * share ** 2).toFixed(2)});stroke:var(${isBest ? "--del" : "--line"});stroke-width:${isBest ? 3 : 1}` },
      el("title", {}, `weight ${xs[i]}, bonus ${ys[i]}: ${number(per)} %`)));
  });
  return el("figure", {}, el("figcaption", {}, `Each disc is a setting that was tried, the darker the lower its PER: from ${number(best)} % (ringed) to ${number(worst)} % and more.`), svg);
}

// ---------------------------------------------------------------- sections

const missingText = (what, command) => el("p", { class: "soft" }, `${what}: not there; made by ${command}.`);

function summary(report) {
  const { total, scored } = report;
  const value = (text, name, small = true) => el("div", { class: small ? "small" : "" }, el("span", { class: "value" }, text), el("span", { class: "name" }, name));
  const range = (interval) => (interval.low === null ? "none" : `${number(interval.low)} to ${number(interval.high)} %`);
  return [
    el("div", { class: "rates" }, value(`${number(total.per)} %`, "phone error rate", false),
      Object.entries(report.intervals).map(([unit, interval]) => value(range(interval), `95 % interval over ${count(interval.num_units)} ${unit}`)),
      value(count(total.num_sub), "substitutions"), value(count(total.num_del), "deletions"), value(count(total.num_ins), "insertions")),
    el("p", {}, el("code", {}, report.line)),
    report.intro.map((line) => el("p", { class: "soft" }, line)),
    el("p", {}, `${count(total.num_ref)} reference tokens of ${count(scored.num_symbols)} symbols in ${count(scored.num_utts)} utterances of ${count(scored.num_spks)} speakers; ${count(scored.num_utts_correct)} utterances are without an error.`),
    (report.warnings || []).map((line) => el("p", { class: "warning" }, line)),
    el("div", { class: "columns" },
      table("By sex", [{ name: "sex", of: (row) => row.sex }, { name: "speakers", of: (row) => row.num_spks, digits: 0 }, { name: "utts", of: (row) => row.num_utts, digits: 0 }, ...COUNTS], report.sexes),
      table("By length of the reference", [{ name: "tokens", of: (row) => row.tokens, show: (row) => row.tokens }, { name: "utts", of: (row) => row.num_utts, digits: 0 }, ...COUNTS], report.lengths)),
  ];
}

function tables(report) {
  return [el("div", { class: "columns" },
    table("By speaker", [{ name: "speaker", of: (row) => row.spk }, { name: "sex", of: (row) => row.sex }, { name: "utts", of: (row) => row.num_utts, digits: 0 }, ...COUNTS], report.speakers, { search: true }),
    table("By phone", [phoneColumn("phone", (row) => row.phone), { name: "errors", of: (row) => row.num_errors, digits: 0 }, ...COUNTS], report.phones, { search: true }),
    table("Confusions", [phoneColumn("true", (row) => row.ref), phoneColumn("found", (row) => row.hyp), { name: "count", of: (row) => row.count, digits: 0 }], report.confusions, { search: true }))];
}

function training() {
  const history = F.history;
  if (!history) return [missingText("Learning curves", "asrkit train")];
  const rows = history.epoch.map((_, i) => Object.fromEntries(Object.keys(history).map((name) => [name, history[name][i]])));
  const column = (name) => ({ name: name.replaceAll("_", " "), of: (row) => row[name], show: (row) => (row[name] === null ? "–" : short(row[name])), digits: 4 });
  return [el("div", { class: "columns" },
    plot("Loss", "epoch", "nats", history.epoch, [{ name: "training", y: history.train_loss, line: "a" }, { name: "dev", y: history.dev_loss, line: "b" }]),
    plot("Dev PER", "epoch", "%", history.epoch, [{ name: "dev PER", y: history.dev_per, line: "c" }])),
  folded("The curves as a table", () => table("Epochs", Object.keys(history).map(column), rows))];
}

function folded(title, make) {
  const item = el("details", {}, el("summary", {}, title));
  item.addEventListener("toggle", () => { if (item.open && item.childElementCount === 1) item.append(make()); });
  return item;
}

function tuning() {
  const out = [];
  if (!F.tuning) return [missingText("Tuning", "asrkit tune")];
  if (F.surface) {
    const { surface } = F, rows = surface.per.map((_, i) => Object.fromEntries(Object.keys(surface).map((name) => [name, surface[name][i]])));
    out.push(surfacePlot(surface, F.tuning.winner), folded("The surface as a table", () => table("Settings that were tried", [
      { name: "weight", of: (row) => row.lm_weight, digits: 2 }, { name: "bonus", of: (row) => row.insertion_bonus, digits: 2 }, { name: "beam", of: (row) => row.beam, digits: 0 },
      { name: "PER, %", of: (row) => row.per, digits: 2 }, { name: "ins", of: (row) => row.num_ins, digits: 0 }, { name: "del", of: (row) => row.num_del, digits: 0 }, { name: "sub", of: (row) => row.num_sub, digits: 0 }], rows)));
  }
  return [...F.tuning.lines.map((line) => el("p", {}, line)), ...out];
}

function searching() {
  const analysis = F.analysis;
  if (!analysis) return [missingText("Search and model errors", "asrkit analyze")];
  return [
    el("p", {}, `${count(analysis.num_wrong)} of ${count(analysis.num_utts)} utterances are wrong. A search error: the reference has a higher total score than what was found, so a wider search might find it. All others are the model's.`),
    el("div", { class: "columns" },
      table("Whose errors they are", [{ name: "class", of: (row) => row.class }, { name: "utts", of: (row) => row.num_utts, digits: 0 }, { name: "share, %", of: (row) => 100 * row.share, digits: 2 }, { name: "errors", of: (row) => row.num_errors, digits: 0 }, ...COUNTS.slice(2)], analysis.classes),
      analysis.wider.length ? table("Wider beams", [{ name: "beam", of: (row) => String(row.beam) }, { name: "PER, %", of: (row) => row.per, digits: 2 }, { name: "errors more", of: (row) => row.num_errors, digits: 0 }, { name: "utts changed", of: (row) => row.num_changed, digits: 0 }, { name: "with a better score", of: (row) => row.num_improved, digits: 0 }], analysis.wider)
        : el("p", {}, `No beam is wider than ${analysis.settings.beam}.`)),
  ];
}

function confidences() {
  const analysis = F.analysis;
  if (!analysis) return [missingText("Reliability of confidences", "asrkit analyze")];
  const names = ["phones", "utterances"], found = analysis.confidence;
  const series = names.map((name, i) => {
    const bins = found[name].bins.filter((bin) => bin.number);
    return { name: `${name} (${count(found[name].number)})`, x: bins.map((bin) => bin.confidence), y: bins.map((bin) => bin.accuracy), line: "ab"[i] };
  });
  const percent = (value) => (value === null ? null : 100 * value);
  return [
    found.calibrated ? null : el("p", { class: "warning" }, "The confidences are not calibrated; asrkit tune does that."),
    el("div", { class: "columns" }, plot("Share that is right, over confidence; on the dashed line confidences are true", "confidence", "share right", [0, 1], series, { from: 0, to: 1, diagonal: true }),
      el("div", {}, table("Confidences", [{ name: "of", of: (row) => row.name }, { name: "number", of: (row) => row.number, digits: 0 }, { name: "mean, %", of: (row) => percent(row.confidence), digits: 2 }, { name: "right, %", of: (row) => percent(row.accuracy), digits: 2 }, { name: "ECE, %", of: (row) => percent(row.ece), digits: 2 }],
        names.map((name) => ({ name, ...found[name] }))),
      el("p", { class: "soft" }, "ECE: the expected calibration error, the mean distance between confidence and share right."),
      folded("The curve as a table", () => table("Phones by confidence", [{ name: "from", of: (row) => row.low, digits: 1 }, { name: "to", of: (row) => row.high, digits: 1 }, { name: "number", of: (row) => row.number, digits: 0 }, { name: "right, %", of: (row) => percent(row.accuracy), digits: 2 }], found.phones.bins)))),
  ];
}

function boundaries() {
  const found = F.boundaries;
  if (!found) return [el("p", { class: "soft" }, "Boundary errors need true times (phones.ctm in the data directory) and those of the phones found (asrkit decode --ctm).")];
  const columns = [
    { name: "boundaries", of: (row) => row.num, digits: 0 }, { name: "within 10 ms, %", of: (row) => row.within_10_ms, digits: 1 }, { name: "20 ms", of: (row) => row.within_20_ms, digits: 1 },
    { name: "50 ms", of: (row) => row.within_50_ms, digits: 1 }, { name: "mean, ms", of: (row) => row.mean_abs_ms, digits: 1 }, { name: "median, ms", of: (row) => row.median_abs_ms, digits: 1 }, { name: "bias, ms", of: (row) => row.bias_ms, digits: 1 }];
  const rows = Object.entries(found.starts).map(([name, row]) => ({ phone: name, ...row }));
  const named = { name: "start of", of: (row) => row.phone, show: (row) => (charOf.has(row.phone) ? phone(charOf.get(row.phone)) : bdi(row.phone)) };
  return [el("p", {}, found.line), table("By phone", [named, ...columns], rows, { search: true })];
}

function making() {
  return [
    el("p", {}, `asrkit ${F.version}, ${F.commit ? `commit ${F.commit}` : "not from a repository"}; by the command`), el("pre", { tabindex: 0 }, F.command),
    F.decoding ? [el("h3", {}, "Search"), el("pre", { tabindex: 0 }, F.decoding)] : null,
    F.config ? folded("Configuration of the experiment", () => el("pre", { tabindex: 0 }, F.config)) : null,
  ];
}

// ---------------------------------------------------------------- two systems

function compared(found) {
  const value = (text, name, small = true) => el("div", { class: small ? "small" : "" }, el("span", { class: "value" }, text), el("span", { class: "name" }, name));
  const units = Object.entries(found.by_unit).map(([unit, row]) => ({ unit, ...row, ...row.interval }));
  const point = (name) => ({ name, of: (row) => row[name], digits: 2 });
  return [
    el("div", { class: "rates" }, value(number(found.difference), "A − B, points of PER; below 0 A is better", false),
      F.names.map((name, i) => value(`${number(found.totals[i].per)} %`, [`PER of ${"AB"[i]}, `, bdi(name)]))),
    table("A − B: its 95 % intervals", [{ name: "over", of: (row) => `${count(row.num_units)} ${row.unit}` }, point("low"), point("high"),
      { name: "probability that A is better", of: (row) => row.prob_a_better, digits: 4 }], units),
    folded("The same as asrkit compare prints it", () => el("pre", { class: "lines", tabindex: 0 }, found.lines.join("\n"))),
    (found.warnings || []).map((line) => el("p", { class: "warning" }, line)),
  ];
}

function wonAndLost(found) {
  const columns = [{ name: "errors of A", of: (row) => row.a, digits: 0 }, { name: "of B", of: (row) => row.b, digits: 0 }, { name: "A − B", of: (row) => row.a - row.b, digits: 0 }];
  const greatest = (rows) => [...rows].sort((x, y) => Math.abs(y.a - y.b) - Math.abs(x.a - x.b));
  return [el("p", {}, "The greatest differences come first. Below 0 A has fewer errors: it wins. A click on A − B puts what A loses first, a second click what it wins."), el("div", { class: "columns" },
    table("By phone", [phoneColumn("phone", (row) => row.phone), { name: "tokens", of: (row) => row.num_ref, digits: 0 }, ...columns], greatest(found.phones), { search: true }),
    table("Confusions", [phoneColumn("true", (row) => row.ref), phoneColumn("found", (row) => row.hyp), ...columns], greatest(found.confusions), { search: true }))];
}

function makingOfBoth() {
  return [
    el("p", {}, `asrkit ${F.version}, ${F.commit ? `commit ${F.commit}` : "not from a repository"}`),
    F.configs.map((config, i) => config && folded(`Configuration of ${"AB"[i]}`, () => el("pre", { tabindex: 0 }, config))),
  ];
}

// ---------------------------------------------------------------- the whole

function build() {
  const sections = F.kind === "comparison" ? [
    ["summary", "Summary", () => compared(F.comparison)],
    ["phones", "Phones won and lost", () => wonAndLost(F.comparison)],
    ["utterances", "Utterances", () => utterancesSection(...COMPARED)],
    ["making", "How it was made", makingOfBoth],
  ] : [
    ["summary", "Summary", () => summary(F.report)],
    ["errors", "Errors", () => errorsSection(F.report)],
    ["utterances", "Utterances", () => utterancesSection(...REPORTED)],
    ["tables", "Speakers and phones", () => tables(F.report)],
    ["confidence", "Confidence", confidences],
    ["times", "Times", boundaries],
    ["search", "Search and model", searching],
    ["tuning", "Tuning", tuning],
    ["training", "Training", training],
    ["making", "How it was made", making],
  ];
  document.getElementById("top").append(el("h1", {}, bdi(F.name)));
  const toggle = hasIpa ? el("label", {}, el("input", { type: "checkbox", id: "ipa", onchange: (event) => setAlphabet(event.target.checked) }), " IPA") : null;
  document.getElementById("nav").append(...sections.map(([id, title]) => el("a", { href: `#${id}` }, title)), toggle || "");
  const main = document.getElementById("main");
  main.replaceChildren();
  for (const [id, title, make] of sections) {
    main.append(el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title), make()));
  }
  if (F.report) document.getElementById("foot").append(el("p", {}, bdi(F.report.hyp), " against ", bdi(F.report.ref)));
  document.body.dataset.ready = "";
}

build();
