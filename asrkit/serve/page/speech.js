// The microphone, and the stream that recognises it while someone speaks.

import { toSamples, toWav } from "./sound.js";

/** Record until `stop`, which gives a WAV file; samples go to `heard` as they come. */
export async function record(heard) {
  const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const microphone = await navigator.mediaDevices.getUserMedia({ audio });
  const release = () => microphone.getTracks().forEach((track) => track.stop());
  const context = new AudioContext();
  try {
    await context.audioWorklet.addModule("recorder.js");
  } catch (error) {
    release();
    throw error;
  }
  const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
  const pieces = [];
  recorder.port.onmessage = ({ data }) => {
    pieces.push(toSamples(data));
    heard(pieces.at(-1));
  };
  context.createMediaStreamSource(microphone).connect(recorder);
  const stop = async () => {
    release();
    await context.close();
    return toWav(pieces, context.sampleRate);
  };
  return { rate: context.sampleRate, stop };
}

/** A stream to the server: `told` gets each line that it answers, `failed` the first fault before its `end`. */
export function openStream(options, told, failed) {
  const socket = new WebSocket(new URL("stream", location.href.replace(/^http/, "ws").replace(/#.*/, "")));
  const waiting = [JSON.stringify(options)];
  const send = (message) => (socket.readyState === WebSocket.OPEN ? socket.send(message) : waiting.push(message));
  let isOver = false;
  const fail = (line) => {
    if (!isOver) failed(line);
    isOver = true;
  };
  socket.onopen = () => waiting.splice(0).forEach((message) => socket.send(message));
  socket.onmessage = ({ data }) => {
    const line = JSON.parse(data);
    if (line.error) fail(line.error);
    else told(line);
  };
  socket.onclose = () => fail("The stream to the server has ended; what you say is still recorded.");
  const end = () => {
    isOver = true;
    send("end");
  };
  return { send, end };
}
