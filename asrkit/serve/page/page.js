import { AXIS_HEIGHT, ROW_HEIGHT, SPECTROGRAM_HEIGHT, drawPosteriors, drawSpectrogram } from "./drawing.js";
import { decodeBytes, decodeSamples, playStretch, toWav } from "./sound.js";
import { openStream, record } from "./speech.js";

const PIXELS_PER_SECOND = 260;
const MAX_PIXELS = 16000; // of a canvas, in one direction
const MAX_LISTED = 3000; // phones of a long recording
const SEEN = 26; // of 255: a class that is never surer is not drawn
const DOWNLOADS = { textgrid: "TextGrid", ctm: "CTM", json: "JSON", srt: "SRT" };

const byId = (id) => document.getElementById(id);
const [model, ipa, phones, live, note, fault] = ["model", "ipa", "phones", "live", "note", "fault"].map(byId);
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
  const content = await answer.json();
  if (answer.status === 401) throw new Error("A token is needed: open the address that `asrkit serve` has printed.");
  if (!answer.ok) throw new Error(content.error);
  return content;
}

/** A recording on the page: what was asked of it, and what came. */
class Result {
  constructor(file) {
    this.file = file;
    this.model = chosen();
    this.phones = phones.value.trim();
    this.article = byId("result").content.cloneNode(true).firstElementChild;
    this.article.querySelector("h2").textContent = file.name;
    byId("results").prepend(this.article);
    results.push(this);
  }

  find(selector) {
    return this.article.querySelector(selector);
  }

  async recognise() {
    this.find(".summary").textContent = "Recognising …";
    const query = new URLSearchParams({ format: "view", model: this.model.name, name: this.file.name.slice(-255) });
    query.set("channel", "mix");
    query.set("ipa", ipa.checked);
    if (this.phones) query.set("phones", this.phones);
    const path = this.phones ? "align" : "transcribe";
    this.article.setAttribute("aria-busy", "true");
    try {
      this.show(await ask(`${path}?${query}`, { method: "POST", body: this.file }));
    } catch (error) {
      this.find(".summary").textContent = error.message;
      this.find(".summary").classList.add("fault");
      this.article.querySelectorAll("audio, .drawing, .phones, .downloads").forEach((part) => (part.hidden = true));
    }
    this.article.removeAttribute("aria-busy");
  }

  show(view) {
    this.view = view;
    this.samples = view.audio ? decodeSamples(view.audio.samples) : null;
    const sure = view.confidence === null ? "" : `, confidence ${(100 * view.confidence).toFixed(0)} %`;
    const what = this.phones ? "aligned" : "recognised";
    const length = `${view.duration.toFixed(2)} s`;
    const long = view.audio ? "" : "; too long to be drawn";
    const listed = view.phones.length > MAX_LISTED ? `; the first ${MAX_LISTED} are listed` : "";
    this.find(".summary").textContent =
      `${view.phones.length || "No"} phones in ${length} of audio, ${what} by ${view.model}${sure}${long}${listed}`;
    const heard = this.samples ? toWav([this.samples], view.audio.rate) : this.file; // browsers play WAV, not SPHERE
    this.find("audio").src ||= URL.createObjectURL(heard);
    this.find(".phones").replaceChildren(...view.phones.slice(0, MAX_LISTED).map((each) => this.button(each)));
    this.find(".drawing").hidden = !view.audio;
    this.find(".downloads").replaceChildren("Download", ...Object.entries(DOWNLOADS).map((each) => this.link(...each)));
    if (view.audio) whenSeen(this.article, () => this.draw());
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
    audio.currentTime = start;
    audio.ontimeupdate = () => {
      if (audio.currentTime < end) return;
      audio.pause();
      audio.ontimeupdate = null;
    };
    audio.play();
  }

  link(format, label) {
    const { name, text } = this.view.files[format];
    return element("a", { textContent: label, download: name, href: URL.createObjectURL(new Blob([text])) });
  }

  draw() {
    const { duration, audio, posteriors } = this.view;
    const room = this.find(".scroll").clientWidth;
    const width = Math.round(Math.min(Math.max(room, PIXELS_PER_SECOND * duration), MAX_PIXELS));
    this.find(".sheet").style.width = `${width}px`;
    const spectrogram = this.find(".spectrogram");
    spectrogram.setAttribute("aria-label", `Spectrogram, 0 to ${audio.rate / 2000} kHz`);
    drawSpectrogram(spectrogram, this.samples, audio.rate, width);
    const lane = this.view.phones.map((each) => {
      const button = this.button(each);
      button.tabIndex = -1; // the list below has the same ones
      button.style.left = `${(each.start / duration) * width}px`;
      button.style.width = `${((each.end - each.start) / duration) * width}px`;
      return button;
    });
    this.find(".lane").replaceChildren(...lane);
    const levels = decodeBytes(posteriors.levels);
    const shown = seenClasses(levels, posteriors.classes.length);
    const canvas = this.find(".posteriors");
    canvas.setAttribute("aria-label", "Posteriors: how sure the network is of each phone at each time");
    drawPosteriors(canvas, posteriors, levels, shown, duration, width);
    const names = shown.map((each) => this.symbol(posteriors.classes[each]));
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

  symbol(phone) {
    const found = this.model.phones.find((each) => each.phone === phone);
    return ipa.checked && found ? found.ipa : phone;
  }
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

async function take(files) {
  fault.textContent = "";
  const added = [...files].map((file) => new Result(file));
  for (const each of added) await each.recognise();
}

function chooseModel() {
  const { streams, phones: symbols } = chosen();
  ipa.disabled = symbols.every((each) => each.ipa === each.phone);
  ipa.checked &&= !ipa.disabled;
  byId("symbols").textContent = `Symbols of ${model.value}: ${symbols.map((each) => each.phone).join(" ")}`;
  note.textContent = streams ? "" : "This model hears a recording to its end before it gives phones.";
}

let speaking = null;
let numSpoken = 0;

async function startSpeaking() {
  fault.textContent = live.textContent = "";
  const final = [];
  const told = (line) => {
    final.push(...(line.final ?? []).map((each) => each.phone));
    live.textContent = [...final, ...(line.partial ?? [])].map((each) => current.symbol(each)).join(" ");
    live.scrollTop = live.scrollHeight;
  };
  const current = { symbol: Result.prototype.symbol, model: chosen() };
  let stream = null;
  const recording = await record((samples) => stream?.send(samples));
  if (chosen().streams) {
    const options = { model: chosen().name, rate: recording.rate, ...(token === null ? {} : { token }) };
    stream = openStream(options, told, (line) => (fault.textContent = line));
  }
  speaking = { recording, end: () => stream?.end() };
}

async function stopSpeaking() {
  const { recording, end } = speaking;
  speaking = null;
  const wav = await recording.stop();
  end();
  await take([new File([wav], `recording ${++numSpoken}.wav`, { type: wav.type })]);
}

async function toggleSpeaking() {
  const button = byId("speak");
  button.disabled = true;
  try {
    await (speaking ? stopSpeaking() : startSpeaking());
  } catch (error) {
    fault.textContent = `The microphone cannot be used: ${error.message}`;
  }
  button.textContent = speaking ? "Stop" : "Speak";
  button.setAttribute("aria-pressed", String(speaking !== null));
  button.disabled = false;
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
  ipa.addEventListener("change", () => results.forEach((each) => each.view && each.recognise()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    results.forEach((each) => each.view?.audio && whenSeen(each.article, () => each.draw())),
  );
  if (!navigator.mediaDevices) {
    byId("speak").disabled = true;
    byId("speak").title = "Browsers give the microphone to pages of this machine, or over HTTPS, alone.";
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
