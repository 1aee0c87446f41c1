// The spectrogram and the posteriors of a stretch of a recording, on canvases that share one scale of time: a `view`
// shows `width` pixels, `scale` pixels to a second, from pixel `first` of the whole on.

export const SPECTROGRAM_HEIGHT = 140;
export const AXIS_HEIGHT = 16;
export const ROW_HEIGHT = 13;
const WINDOW_SECONDS = 0.025;
const RANGE_DB = 48;
const PREEMPHASIS = 0.97;
const LOUDNESS_COLUMNS = 2000; // at which the loudest place of a recording is looked for

const property = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** 256 colours from the paper's to the named one's, as the bytes of RGBA. */
function shades(name) {
  const [from, to] = [channels(property("--paper")), channels(property(name))];
  const bytes = new Uint8ClampedArray(4 * 256);
  for (let level = 0; level < 256; level++) {
    for (let i = 0; i < 3; i++) bytes[4 * level + i] = from[i] + ((to[i] - from[i]) * level) / 255;
    bytes[4 * level + 3] = 255;
  }
  return bytes;
}

/** In place, the Fourier transform of a signal whose length is a power of two. */
function transform(real, imaginary) {
  const size = real.length;
  for (let i = 1, j = 0; i < size; i++) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let length = 2; length <= size; length <<= 1) {
    const half = length >> 1;
    for (let k = 0; k < half; k++) {
      const [cosine, sine] = [Math.cos((-2 * Math.PI * k) / length), Math.sin((-2 * Math.PI * k) / length)];
      for (let even = k; even < size; even += length) {
        const odd = even + half;
        const [re, im] = [real[odd] * cosine - imaginary[odd] * sine, real[odd] * sine + imaginary[odd] * cosine];
        real[odd] = real[even] - re;
        imaginary[odd] = imaginary[even] - im;
        real[even] += re;
        imaginary[even] += im;
      }
    }
  }
}

/** Log power in dB, `width` columns of `height` rows, low frequencies last; column x is about sample `middle(x)`. */
function powers(samples, rate, middle, width, height) {
  const length = Math.round(WINDOW_SECONDS * rate);
  const size = 2 ** Math.ceil(Math.log2(length));
  const window = Float64Array.from({ length }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 0.5)) / length));
  const result = new Float32Array(width * height);
  const real = new Float64Array(size);
  const imaginary = new Float64Array(size);
  for (let x = 0; x < width; x++) {
    const begin = Math.round(middle(x) - length / 2);
    real.fill(0);
    imaginary.fill(0);
    for (let i = 0; i < length; i++) {
      const at = begin + i;
      if (at > 0 && at < samples.length) real[i] = window[i] * (samples[at] - PREEMPHASIS * samples[at - 1]);
    }
    transform(real, imaginary);
    for (let y = 0; y < height; y++) {
      const bin = Math.round(((height - 1 - y) / (height - 1)) * (size / 2));
      result[y * width + x] = 10 * Math.log10(real[bin] ** 2 + imaginary[bin] ** 2 + 1);
    }
  }
  return result;
}

/** The highest log power in a recording, in dB. */
export function loudest(samples, rate) {
  const step = samples.length / LOUDNESS_COLUMNS;
  const power = powers(samples, rate, (x) => (x + 0.5) * step, LOUDNESS_COLUMNS, SPECTROGRAM_HEIGHT);
  return power.reduce((most, value) => Math.max(most, value), -Infinity);
}

/** Draw levels from 0 to 255 in rows, a pixel each. */
function paint(canvas, width, height, colour, levelOf) {
  canvas.width = width;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const palette = new Uint32Array(shades(colour).buffer);
  const pixels = new Uint32Array(image.data.buffer);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) pixels[y * width + x] = palette[levelOf(x, y)];
  context.putImageData(image, 0, 0);
  return context;
}

/** The spectrogram, with seconds below it; `top` is darkest. */
export function drawSpectrogram(canvas, samples, rate, top, { first, width, scale }) {
  canvas.height = SPECTROGRAM_HEIGHT + AXIS_HEIGHT;
  const power = powers(samples, rate, (x) => ((first + x + 0.5) / scale) * rate, width, SPECTROGRAM_HEIGHT);
  const level = (x, y) => Math.max(0, Math.min(255, 255 * (1 + (power[y * width + x] - top) / RANGE_DB))) | 0;
  const context = paint(canvas, width, SPECTROGRAM_HEIGHT, "--ink", level);
  const seconds = samples.length / rate;
  const tick = [0.05, 0.1, 0.25, 0.5, 1, 5, 10].find((each) => each * scale >= 60) ?? 30;
  context.fillStyle = property("--quiet");
  context.font = "11px system-ui, sans-serif";
  const last = Math.min(seconds, (first + width) / scale);
  for (let i = Math.floor(first / scale / tick); i * tick < last; i++) {
    const x = i * tick * scale - first;
    context.fillRect(x, SPECTROGRAM_HEIGHT, 1, 4);
    if ((seconds - i * tick) * scale > 30) context.fillText(`${+(i * tick).toFixed(2)} s`, x + 3, SPECTROGRAM_HEIGHT + 13);
  }
}

/** Rows of the classes `shown`; `levels` holds a byte for each class at each step. */
export function drawPosteriors(canvas, posteriors, levels, shown, { first, width, scale }) {
  const height = shown.length * ROW_HEIGHT;
  canvas.height = height;
  const { start, step, classes } = posteriors;
  const last = levels.length / classes.length - 1;
  const stepOf = (x) => Math.max(0, Math.min(last, Math.round(((first + x + 0.5) / scale - start) / step)));
  const steps = Int32Array.from({ length: width }, (_, x) => stepOf(x) * classes.length);
  const isGap = (y) => y % ROW_HEIGHT === ROW_HEIGHT - 1;
  paint(canvas, width, height, "--strong", (x, y) =>
    isGap(y) ? 0 : levels[steps[x] + shown[Math.floor(y / ROW_HEIGHT)]],
  );
}
