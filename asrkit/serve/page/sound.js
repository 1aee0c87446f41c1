// Samples, WAV files and playing.

const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

/** Samples of 16 bits and bytes from base64. */
export const decodeSamples = (text) => new Int16Array(bytesOf(text).buffer);
export const decodeBytes = bytesOf;

/** Floats within -1 and 1 to samples of 16 bits. */
export function toSamples(floats) {
  return Int16Array.from(floats, (value) => Math.max(-32768, Math.min(32767, Math.round(value * 32768))));
}

/** A WAV file of one channel; `pieces` are arrays of 16-bit samples. */
export function toWav(pieces, rate) {
  const size = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
  const head = new DataView(new ArrayBuffer(44));
  const text = (at, characters) => [...characters].forEach((each, i) => head.setUint8(at + i, each.charCodeAt(0)));
  text(0, "RIFF");
  head.setUint32(4, 36 + size, true);
  text(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true);
  head.setUint16(22, 1, true);
  head.setUint32(24, rate, true);
  head.setUint32(28, 2 * rate, true);
  head.setUint16(32, 2, true);
  head.setUint16(34, 16, true);
  text(36, "data");
  head.setUint32(40, size, true);
  return new Blob([head, ...pieces], { type: "audio/wav" });
}

let context = null;
let playing = null;

/** Play the stretch from `start` to `end`, in seconds, of samples of 16 bits; what is playing stops. */
export function playStretch(samples, rate, start, end) {
  context ??= new AudioContext();
  playing?.stop();
  const stretch = samples.subarray(Math.floor(start * rate), Math.ceil(end * rate));
  if (!stretch.length) return;
  const buffer = context.createBuffer(1, stretch.length, rate);
  buffer.copyToChannel(Float32Array.from(stretch, (sample) => sample / 32768), 0);
  playing = context.createBufferSource();
  playing.buffer = buffer;
  playing.connect(context.destination);
  context.resume();
  playing.start();
}
