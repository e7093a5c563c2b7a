/* Keeps one session open for as long as that makes sense (proto/session.md).

   Connect, HELLO with the cursor, READY, sync; when it ends, the close code says whether to come back: 40xx with
   back-off, 4500 after a refresh of the token, the rest not at all. Knows nothing of chats and messages. */

import { APP_VERSION, ENDS, OP, Refused, post, socketUrl } from './protocol.js';
import { Wire } from './wire.js';

const PING_EVERY_S = 45;
const DEAD_AFTER_MS = 8000;
const OPEN_WITHIN_MS = 20000;
const LONGEST_WAIT_MS = 20000;
const RECV_EVERY = 24;
const RECV_WITHIN_MS = 1500;

export class Session {
  /**
   * `credentials`: {token, refresh}; `keep(credentials)` stores new ones; `cursor()` is where to resume.
   * `take(frame, answering)` gets frames, `ready(value)` an opened session, `status({state, detail})` what to show;
   * `pinged()` and `pong()`: what was sent before the one has arrived at the other.
   */
  constructor({ credentials, keep, cursor, take, ready, status, pinged, pong }) {
    Object.assign(this, { credentials, keep, cursor, take, ready, status, pinged, pong });
    this.wire = null;
    this.limits = { text: 10000, fetch: 200, inflight: 256 };
    this.open = false; // READY came
    this.failures = 0;
    this.stopped = false;
    this.timer = 0;
    this.refreshedAt = -Infinity;
    this.bye = null;
  }

  start() {
    this.stopped = false;
    clearTimeout(this.timer);
    this.status({ state: 'connecting' });
    this.bye = null;
    const wire = new Wire(socketUrl(), {
      opened: () => wire.send(OP.HELLO, 1, this.credentials.token,
        { app: APP_VERSION, os: 'web', locale: navigator.language, recv: true }, this.cursor() ?? null),
      take: (frame, answering) => this.#take(frame, answering),
      ended: (code) => this.#ended(code),
    });
    this.wire = wire;
    this.timer = setTimeout(() => wire.drop(1006), OPEN_WITHIN_MS);
  }

  /** For good: nothing is tried again. */
  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    this.wire?.drop();
  }

  /** The network or the person is back: try now, or make sure that the path is alive. */
  wake() {
    if (this.stopped) return;
    if (this.open) this.#ping();
    else if (!this.wire) this.start();
  }

  async request(op, ...fields) {
    if (!this.open) throw new Refused('offline');
    return this.wire.request(op, ...fields);
  }

  send(...frame) {
    if (this.open) this.wire.send(...frame);
  }

  #take(frame, answering) {
    const [op] = frame;
    if (op === OP.READY) this.#opened(frame[2]);
    else if (op === OP.BYE || (op === OP.ERROR && !this.open)) {
      const [code, detail, retryAfter] = op === OP.BYE ? frame.slice(1) : frame.slice(2);
      this.bye = { code, detail, retryAfter };
    } else if (op === OP.PONG) this.pong();
    else if (op === OP.SYNCED) {
      this.failures = 0;
      this.take(frame, answering);
    } else this.take(frame, answering);
  }

  #opened(value) {
    this.open = true;
    this.reported = 0;
    Object.assign(this.limits, value.limits);
    const [least, most] = value.keepalive;
    // A hidden tab's timers come up to a minute late, so the promise is twice what is meant.
    this.promise_s = Math.max(least, Math.min(most, 2 * PING_EVERY_S));
    this.#ping();
    this.ready(value);
  }

  #ping() {
    clearTimeout(this.timer);
    const { wire } = this;
    const before = wire.heard;
    this.pinged();
    wire.send(OP.PING, this.promise_s);
    this.timer = setTimeout(() => {
      if (wire !== this.wire) return;
      if (wire.heard === before) wire.drop(1006);
      else this.timer = setTimeout(() => this.#ping(), this.promise_s * 500 - DEAD_AFTER_MS);
    }, DEAD_AFTER_MS);
  }

  /** Tell what was stored so far (proto/session.md#recv); called after each stored batch. */
  report() {
    if (!this.open || this.wire.received === this.reported) return;
    const due = document.hidden || this.wire.received - this.reported >= RECV_EVERY; // hidden: timers would be late
    if (due) {
      clearTimeout(this.recvTimer);
      this.recvTimer = 0;
      this.reported = this.wire.received;
      this.send(OP.RECV, this.reported);
    } else {
      this.recvTimer ||= setTimeout(() => {
        this.recvTimer = 0;
        if (!this.open) return;
        this.reported = this.wire.received;
        this.send(OP.RECV, this.reported);
      }, RECV_WITHIN_MS);
    }
  }

  #ended(code) {
    clearTimeout(this.timer);
    clearTimeout(this.recvTimer);
    this.recvTimer = 0;
    this.open = false;
    this.wire = null;
    if (this.stopped) return;
    const end = ENDS[code] ?? (code >= 4500 && code < 4600 ? 'broken' : null);
    if (end === 'expired') this.#refresh();
    else if (end) this.#finish(end);
    else this.#retry();
  }

  #finish(state) {
    this.stopped = true;
    this.status({ state, detail: this.bye?.detail ?? '' });
  }

  /** Full jitter, and not before the time that the server asked for. */
  #retry(after = this.bye?.retryAfter) {
    const bound = Math.min(LONGEST_WAIT_MS, 500 * 2 ** Math.min(this.failures++, 10));
    const wait = after ? after + Math.random() * Math.min(bound, 1000) : Math.random() * bound;
    this.status({ state: 'offline', detail: this.bye?.code ?? '' });
    this.timer = setTimeout(() => this.start(), wait);
  }

  async #refresh() {
    if (performance.now() - this.refreshedAt < 10000) {
      this.#finish('expired'); // a fresh token was refused: refreshing again would not help
      return;
    }
    this.status({ state: 'connecting' });
    try {
      const next = await post('/v1/auth/refresh', { refresh: this.credentials.refresh });
      Object.assign(this.credentials, next);
      await this.keep(this.credentials);
      this.refreshedAt = performance.now();
    } catch (error) {
      if (error.code === 'unauthorized') this.#finish('expired');
      else this.#retry(error.retryAfter);
      return;
    }
    if (!this.stopped) this.start();
  }
}
