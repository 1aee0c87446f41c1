// Gives the page what the microphone hears, some hundredths of a second at a time.
class Recorder extends AudioWorkletProcessor {
  #samples = new Float32Array(2048);
  #count = 0;

  process([input]) {
    const heard = input[0];
    if (heard) {
      for (const sample of heard) {
        this.#samples[this.#count++] = sample;
        if (this.#count === this.#samples.length) {
          this.port.postMessage(this.#samples);
          this.#count = 0;
        }
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
