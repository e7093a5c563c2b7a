/* One WebSocket: frames as JSON arrays, and requests matched to their answers by ref. */

import { OP, Refused } from './protocol.js';

const IN_FLIGHT = 32; // the server takes 64 (proto/frames.md#client)
const WAITING = 500;

export class Wire {
  /** `take(frame)` gets every frame but answers; `ended(code)` is called once. */
  constructor(url, { opened, take, ended }) {
    this.heard = 0; // frames that came: a sign of life
    this.received = 0; // MSG and CHANGE frames, for RECV
    this.asked = new Map(); // ref → {frame, resolve, reject}, in the order of asking
    this.waiting = [];
    this.ref = 0;
    this.take = take;
    this.ended = ended;
    this.socket = new WebSocket(url, 'mim.json');
    this.socket.onopen = opened;
    this.socket.onmessage = (event) => this.#take(event.data);
    this.socket.onclose = (event) => this.#end(event.code);
  }

  send(...frame) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  /** Ask with FETCH, CALL or CHANGES. Rejects with Refused; `lost` when the connection ends before the answer. */
  request(op, ...fields) {
    return new Promise((resolve, reject) => {
      if (this.socket.readyState > WebSocket.OPEN) reject(new Refused('lost'));
      else if (this.waiting.length >= WAITING) reject(new Refused('rate_limited'));
      else {
        this.waiting.push({ frame: [op, ++this.ref, ...fields], resolve, reject });
        this.#ask();
      }
    });
  }

  #ask() {
    while (this.waiting.length && this.asked.size < IN_FLIGHT) {
      const question = this.waiting.shift();
      this.asked.set(question.frame[1], question);
      this.send(...question.frame);
    }
  }

  /** The page that is being answered, for the server answers in the order of asking. */
  answering() {
    for (const { frame } of this.asked.values()) return frame;
    return null;
  }

  /** Let go without waiting for the peer, as for a path that is dead. */
  drop(code = 1000) {
    this.socket.onmessage = this.socket.onopen = this.socket.onclose = null;
    this.socket.close(1000);
    this.#end(code);
  }

  #take(data) {
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (!Array.isArray(frame)) return;
    this.heard++;
    const [op, ref] = frame;
    if (op === OP.MSG || op === OP.CHANGE) this.received++;
    const question = (op === OP.RESULT || op === OP.ERROR) && this.asked.get(ref);
    if (!question) {
      this.take(frame, this.answering());
      return;
    }
    this.asked.delete(ref);
    this.#ask();
    if (op === OP.RESULT) question.resolve(frame[2]);
    else question.reject(new Refused(frame[2], frame[3], frame[4] ?? null));
  }

  #end(code) {
    const left = [...this.asked.values(), ...this.waiting];
    this.asked.clear();
    this.waiting = [];
    for (const { reject } of left) reject(new Refused('lost'));
    const { ended } = this;
    this.ended = () => {};
    ended(code);
  }
}
