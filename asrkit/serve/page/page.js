import { AXIS_HEIGHT, ROW_HEIGHT, SPECTROGRAM_HEIGHT, drawPosteriors, drawSpectrogram, loudest } from "./drawing.js";
import { decodeBytes, decodeSamples, playStretch, toWav } from "./sound.js";
import { openStream, record } from "./speech.js";

const PIXELS_PER_SECOND = 320; // at first
const MAX_PIXELS_PER_SECOND = 4000;
const ZOOM = 1.6;
const LETTER = 8; // pixels
const MAX_LISTED = 3000; // phones of a long recording
const SEEN = 26; // of 255: a class that is never surer is not drawn
const DOWNLOADS = { textgrid: "TextGrid", ctm: "CTM", json: "JSON", srt: "SRT" };

const byId = (id) => document.getElementById(id);
const [model, ipa, phones, note, fault] = ["model", "ipa", "phones", "note", "fault"].map(byId);
const token = new URLSearchParams(location.hash.slice(1)).get("token");
const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
const results = [];
let models = [];

const chosen = () => models.find((each) => each.name === model.value);
const element = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);

/** What the server answers; throws an Error with the line that it gives for a fault. */
async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The server does not answer: is `asrkit serve` still running?");
  }
  const content = await answer.json().catch(() => {
    throw new Error(`The server's answer (status ${answer.status}) did not come whole, or is not asrkit's.`);
  });
  if (answer.status === 401) throw new Error("A token is needed: open the address that `asrkit serve` has printed.");
  if (!answer.ok) throw new Error(content.error);
  return content;
}

let last = Promise.resolve();

/** Do it when all that was to be done later before is done. It must not fail. */
const later = (act) => (last = last.then(act));

const symbolOf = (model, phone) => (ipa.checked && model.phones.find((each) => each.phone === phone)?.ipa) || phone;

/** What was typed, in the model's symbols: a phone in IPA is taken where it stands for one symbol alone. */
function typedPhones(model) {
  const inModel = (typed) => {
    if (model.phones.some((each) => each.phone === typed)) return typed;
    const meant = model.phones.filter((each) => each.ipa === typed);
    return meant.length === 1 ? meant[0].phone : typed;
  };
  return phones.value.trim().split(/\s+/).filter(Boolean).map(inModel).join(" ");
}

const PARTS = "audio, .drawing, .phones, .downloads, .correct";

/** A recording on the page: what was asked of it, and what came. */
class Result {
  constructor(file, isSpoken) {
    this.file = file;
    this.isSpoken = isSpoken;
    this.scale = PIXELS_PER_SECOND;
    this.article = byId("result").content.cloneNode(true).firstElementChild;
    this.find("h2").textContent = file.name;
    this.find("audio").setAttribute("aria-label", `Player of ${file.name}`);
    this.find(".phones").setAttribute("aria-label", `Phones of ${file.name}; arrow keys move, Enter plays`);
    this.find(".phones").addEventListener("keydown", moveFocus);
    this.find(".again").addEventListener("click", () => this.ask(true));
    this.find(".correct").addEventListener("click", () => this.correct());
    this.find(".out").addEventListener("click", () => this.zoom(1 / ZOOM));
    this.find(".in").addEventListener("click", () => this.zoom(ZOOM));
    this.find(".scroll").addEventListener("scroll", () => this.drawSoon());
    byId("results").prepend(this.article);
    results.push(this);
    this.ask(true);
  }

  find(selector) {
    return this.article.querySelector(selector);
  }

  /** Have it recognised when its turn comes; `anew` by the model and with the phones that are now chosen. */
  ask(anew = false) {
    if (anew) {
      this.model = chosen();
      this.phones = typedPhones(this.model);
    }
    this.tell("Waiting …");
    this.find(".again").disabled = true;
    later(() => this.recognise());
  }

  tell(text, isFault = false) {
    this.find(".summary").textContent = text;
    this.find(".summary").classList.toggle("fault", isFault);
  }

  async recognise() {
    this.tell("Recognising …");
    const query = new URLSearchParams({ format: "view", model: this.model.name, name: this.file.name.slice(-255) });
    query.set("channel", "mix");
    query.set("ipa", ipa.checked && hasIpa(this.model));
    if (this.phones) query.set("phones", this.phones);
    const path = this.phones ? "align" : "transcribe";
    this.article.setAttribute("aria-busy", "true");
    try {
      await this.file.slice(0, 1).arrayBuffer().catch(() => {
        throw new Error(`${this.file.name}: cannot be read. Is it a folder, or has it changed since it was chosen?`);
      });
      this.show(await ask(`${path}?${query}`, { method: "POST", body: this.file }));
    } catch (error) {
      this.view = null;
      this.tell(error.message, true);
      this.find(".why").textContent = "";
      this.article.querySelectorAll(PARTS).forEach((part) => (part.hidden = true));
      if (this.isSpoken) this.offer({}); // what was said is not lost
    }
    this.find(".again").disabled = false;
    this.article.removeAttribute("aria-busy");
  }

  show(view) {
    this.view = view;
    this.lane = null;
    this.samples = view.audio ? decodeSamples(view.audio.samples) : null;
    const { length } = view.phones;
    const sure = view.confidence === null ? "" : `, confidence ${(100 * view.confidence).toFixed(0)} %`;
    const what = this.phones ? "aligned" : "recognised";
    const listed = length > MAX_LISTED ? `; the first ${MAX_LISTED} are listed` : "";
    const count = `${length || "No"} phone${length === 1 ? "" : "s"}`;
    this.tell(`${count} in ${view.duration.toFixed(2)} s of audio, ${what} by ${view.model}${sure}${listed}`);
    this.find(".why").textContent = view.note ?? "";
    this.article.querySelectorAll(PARTS).forEach((part) => (part.hidden = false));
    const buttons = view.phones.slice(0, MAX_LISTED).map((each) => this.button(each));
    buttons.slice(1).forEach((button) => (button.tabIndex = -1)); // the arrow keys reach them
    this.find(".phones").replaceChildren(...buttons);
    this.find(".drawing").hidden = !view.audio;
    this.offer(view.files);
    byId("legend").hidden = false;
    if (!view.audio) return;
    this.levels = decodeBytes(view.posteriors.levels);
    this.shown = seenClasses(this.levels, view.posteriors.classes.length);
    this.top = loudest(this.samples, view.audio.rate);
    whenSeen(this.article, () => this.draw());
  }

  /** The player, and what can be downloaded. */
  offer(files) {
    const audio = this.find("audio");
    const heard = this.samples ? toWav([this.samples], this.view.audio.rate) : this.file; // browsers play no SPHERE
    audio.src ||= URL.createObjectURL(heard);
    audio.onerror = () => (this.find(".why").textContent += " This browser cannot play the file.");
    const links = Object.entries(DOWNLOADS)
      .filter(([format]) => format in files)
      .map(([format, label]) => link(label, files[format].name, new Blob([files[format].text])));
    if (this.isSpoken) links.push(link("WAV", this.file.name, this.file));
    this.find(".downloads").replaceChildren("Download", ...links);
    audio.hidden = this.find(".downloads").hidden = false;
  }

  /** A phone that plays itself, shaded by its confidence. */
  button({ phone, start, end, confidence }) {
    const sure = `confidence ${(100 * confidence).toFixed(0)} %`;
    const title = `${phone}: ${start.toFixed(3)} to ${end.toFixed(3)} s, ${sure}`;
    const button = element("button", { type: "button", className: "phone", textContent: phone, title });
    button.style.setProperty("--share", `${100 * confidence}%`);
    button.classList.toggle("silence", this.isSilence(phone));
    button.addEventListener("click", () => this.play(start, end));
    return button;
  }

  isSilence(phone) {
    return this.model.phones.some((each) => each.is_silence && [each.phone, each.ipa].includes(phone));
  }

  play(start, end) {
    if (this.samples) {
      playStretch(this.samples, this.view.audio.rate, start, end);
      return;
    }
    const audio = this.find("audio");
    const stop = () => (audio.currentTime < end ? requestAnimationFrame(stop) : audio.pause());
    audio.currentTime = start;
    audio.play().then(stop, () => {}); // `onerror` tells
  }

  /** The phones that were found go into the field, to be corrected and aligned. */
  correct() {
    phones.value = this.view.phones.map((each) => each.phone).join(" ");
    model.value = this.model.name;
    chooseModel();
    phones.focus();
  }

  /** Show `factor` times as many pixels of a second, about the same middle. */
  zoom(factor) {
    const { scrollLeft, clientWidth } = this.find(".scroll");
    const middle = (scrollLeft + clientWidth / 2) / this.scale;
    this.scale = Math.min(this.scale * factor, MAX_PIXELS_PER_SECOND);
    this.draw();
    this.find(".scroll").scrollLeft = middle * this.scale - clientWidth / 2;
  }

  drawSoon() {
    this.drawing ??= requestAnimationFrame(() => {
      this.drawing = null;
      if (this.view?.audio) this.drawStretch();
    });
  }

  draw() {
    const { duration, audio, posteriors } = this.view;
    const room = this.find(".scroll").clientWidth;
    if (!this.watcher) {
      this.watcher = new ResizeObserver(() => this.view?.audio && this.draw());
      this.watcher.observe(this.find(".scroll"));
    }
    this.scale = Math.max(this.scale, room / duration);
    this.find(".sheet").style.width = `${Math.round(this.scale * duration)}px`;
    this.find(".spectrogram").setAttribute("aria-label", `Spectrogram, 0 to ${audio.rate / 2000} kHz`);
    const canvas = this.find(".posteriors");
    canvas.setAttribute("aria-label", "Posteriors: how sure the network is of each phone at each time");
    this.drawStretch();
    const names = this.shown.map((each) => symbolOf(this.model, posteriors.classes[each]));
    const top = canvas.offsetTop + 1;
    const labels = [
      [`${audio.rate / 2000} kHz`, 0],
      ["0", SPECTROGRAM_HEIGHT - AXIS_HEIGHT + 5],
      ...names.map((name, row) => [name, top + row * ROW_HEIGHT]),
    ].map(([textContent, at]) => {
      const label = element("span", { textContent });
      label.style.top = `${at}px`;
      return label;
    });
    const widest = Math.max(...labels.map((each) => each.textContent.length));
    this.find(".labels").style.width = `${0.45 * widest + 0.5}rem`;
    this.find(".labels").replaceChildren(...labels);
  }

  /** Draw what the drawing is scrolled to. */
  drawStretch() {
    const { audio, phones: found, posteriors, duration } = this.view;
    const { scrollLeft, clientWidth } = this.find(".scroll");
    const view = { first: Math.round(scrollLeft), width: Math.max(clientWidth, 1), scale: this.scale };
    drawSpectrogram(this.find(".spectrogram"), this.samples, audio.rate, this.top, view);
    drawPosteriors(this.find(".posteriors"), posteriors, this.levels, this.shown, view);
    const seconds = (pixels) => pixels / this.scale;
    const { lane } = this;
    const isSame = lane?.scale === this.scale && lane.from <= seconds(view.first);
    if (isSame && seconds(view.first + view.width) <= lane.to) return; // so that a click finds what it began on
    const [from, to] = [seconds(view.first - view.width), seconds(view.first + 2 * view.width)];
    this.lane = { scale: this.scale, from, to };
    const buttons = found.filter((each) => each.end > from && each.start < to).map((each) => {
      const button = this.button(each);
      button.tabIndex = -1; // the list below has the same ones
      button.ariaLabel = each.phone;
      if ((each.end - each.start) * this.scale < LETTER * each.phone.length) button.textContent = ""; // its title tells
      button.style.left = `${(100 * each.start) / duration}%`;
      button.style.width = `${(100 * (each.end - each.start)) / duration}%`;
      return button;
    });
    this.find(".lane").replaceChildren(...buttons);
  }
}

const link = (textContent, download, blob) =>
  element("a", { textContent, download, href: URL.createObjectURL(blob), ariaLabel: `${textContent}: ${download}` });

/** Arrow keys go from phone to phone. */
function moveFocus(event) {
  const buttons = [...event.currentTarget.children];
  const at = buttons.indexOf(event.target);
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: buttons.length - 1 }[event.key];
  if (!buttons[to]) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  buttons[to].tabIndex = 0;
  buttons[to].focus();
}

/** Classes that the network is ever somewhat sure of, the blank last. */
function seenClasses(levels, count) {
  const most = new Uint8Array(count);
  levels.forEach((level, at) => (most[at % count] = Math.max(most[at % count], level)));
  return [...most.keys()].slice(1).concat(0).filter((each) => most[each] >= SEEN);
}

/** Do it when the element comes into sight, and no earlier. */
function whenSeen(target, act) {
  const watcher = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watcher.disconnect();
    act();
  });
  watcher.observe(target);
}

function take(files, isSpoken = false) {
  fault.textContent = "";
  for (const file of files) new Result(file, isSpoken);
}

const hasIpa = ({ phones: symbols }) => symbols.some((each) => each.ipa !== each.phone);

function showSymbols() {
  const symbols = chosen().phones.map((each) => symbolOf(chosen(), each.phone));
  byId("symbols").textContent = `Symbols of ${model.value}: ${symbols.join(" ")}`;
}

function chooseModel() {
  const { streams, phones: symbols, note: doubt } = chosen();
  ipa.disabled = !hasIpa(chosen());
  ipa.checked &&= !ipa.disabled;
  showSymbols();
  const spoken = symbols.filter((each) => !each.is_silence);
  phones.placeholder = `for example ${spoken.slice(0, 4).map((each) => each.phone).join(" ")}`;
  const whole = streams ? "" : "This model hears a recording to its end before it gives phones.";
  const mute = navigator.mediaDevices ? "" : "Browsers give the microphone only to pages of this machine, or over HTTPS.";
  note.textContent = [whole, mute].filter(Boolean).join(" ");
  byId("doubt").textContent = doubt ? `This model was ${doubt}.` : "";
}

let speaking = null;
let numSpoken = 0;

async function startSpeaking() {
  const [said, maybe] = [byId("said"), byId("maybe")];
  fault.textContent = said.textContent = maybe.textContent = "";
  const current = chosen();
  const told = ({ final = [], partial = [] }) => {
    const written = (each) => `${symbolOf(current, each)} `;
    if (final.length) said.append(...final.map((each) => written(each.phone)));
    maybe.textContent = partial.map(written).join("");
    byId("live").scrollTop = byId("live").scrollHeight;
  };
  let stream = null;
  const recording = await record((samples) => stream?.send(samples));
  if (current.streams) {
    const options = { model: current.name, rate: recording.rate, ...(token === null ? {} : { token }) };
    stream = openStream(options, told, (line) => (fault.textContent = line));
  }
  speaking = { recording, end: () => stream?.end() };
}

async function stopSpeaking() {
  const { recording, end } = speaking;
  speaking = null;
  const wav = await recording.stop();
  end();
  take([new File([wav], `recording ${++numSpoken}.wav`, { type: wav.type })], true);
}

let isToggling = false;

async function toggleSpeaking() {
  if (isToggling) return;
  const button = byId("speak");
  isToggling = true;
  try {
    await (speaking ? stopSpeaking() : startSpeaking());
  } catch (error) {
    const remedy = error.name === "NotAllowedError" ? "Allow it in the browser's settings for this page" : "Connect one";
    fault.textContent = `The microphone cannot be used: ${error.message}. ${remedy}, or choose files.`;
  }
  button.textContent = speaking ? "Stop" : "Speak";
  button.classList.toggle("on", speaking !== null);
  isToggling = false;
}

function listen() {
  const drop = byId("drop");
  byId("files").addEventListener("change", ({ target }) => {
    take([...target.files]);
    target.value = "";
  });
  byId("speak").addEventListener("click", toggleSpeaking);
  addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  addEventListener("dragleave", () => drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files);
  });
  model.addEventListener("change", chooseModel);
  ipa.addEventListener("change", () => {
    showSymbols();
    results.filter((each) => each.view).forEach((each) => each.ask());
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    results.forEach((each) => each.view?.audio && whenSeen(each.article, () => each.draw())),
  );
  if (!navigator.mediaDevices) {
    byId("speak").disabled = true;
  }
}

try {
  models = await ask("models");
  model.replaceChildren(...models.map(({ name }) => element("option", { value: name, textContent: name })));
  chooseModel();
  listen();
} catch (error) {
  fault.textContent = error.message;
}
