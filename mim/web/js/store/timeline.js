/* The messages of one open room. A room is the sequence from `first` to `head`; of it this holds what was looked at
   lately, reads what is stored, and has the rest fetched. So a hole is nothing special: it is filled when seen. */

import { all, range, seqs } from './database.js';

const PAGE = 100;
const KEEP = 30; // pages
const RETRY_MS = 1500;

export class Timeline {
  /** `changed()` after messages came in. */
  constructor(engine, chat, changed) {
    Object.assign(this, { engine, chat, changed });
    this.messages = new Map(); // seq → message
    this.lines = new Map(); // after → changes that show as lines, by rev
    this.read = new Set(); // pages that were read from the database, the one needed last at the end
    this.busy = new Set(); // pages being fetched
    this.failed = new Map(); // page → when to try again
    this.off = [
      engine.model.on('message', ({ chat: where, message }) => where === chat && this.#take(message)),
      engine.model.on('line', ({ chat: where, line }) => where === chat && this.#line(line)),
      engine.model.on('gone', ({ chat: where }) => where === chat && this.clear()),
      engine.model.on('reset', () => this.clear()),
      engine.model.on('status', () => { this.failed.clear(); }),
    ];
  }

  close() {
    this.off.forEach((off) => off());
    this.closed = true;
  }

  clear() {
    this.messages.clear();
    this.lines.clear();
    this.read.clear();
    this.failed.clear();
  }

  get record() {
    return this.engine.model.chats.get(this.chat);
  }

  message(seq) {
    return this.messages.get(seq);
  }

  #take(message) {
    this.messages.set(message.seq, message);
    this.changed();
  }

  #line(line) {
    const lines = (this.lines.get(line.after) ?? []).filter(({ rev }) => rev !== line.rev);
    this.lines.set(line.after, [...lines, line].sort((one, other) => one.rev - other.rev));
    this.changed();
  }

  /** Have the messages from `low` to `high` here, from the database or else from the server. Resolves when they are. */
  async need(low, high) {
    const { record } = this;
    if (!record) return;
    const pages = [];
    for (let page = Math.floor(Math.max(low, record.first) / PAGE); page <= Math.floor(Math.min(high, record.head) / PAGE); page++) {
      pages.push(page);
    }
    await Promise.all(pages.filter((page) => !this.#again(page)).map((page) => this.#load(page)));
    this.#forget();
    await Promise.all(pages.filter((page) => this.read.has(page)).map((page) => this.#fetch(page)));
  }

  /** Whether a page is here; it is then the last one to be forgotten. */
  #again(page) {
    const here = this.read.delete(page);
    if (here) this.read.add(page);
    return here;
  }

  async #load(page) {
    this.read.add(page);
    const [low, high] = [page * PAGE, page * PAGE + PAGE - 1];
    const [messages, lines] = await Promise.all([
      all(this.engine.db, 'messages', seqs(this.chat, low, high)),
      all(this.engine.db, 'lines', range(this.chat, low, high))]);
    if (this.closed || !this.read.has(page)) return;
    for (const message of messages) if (!this.messages.has(message.seq)) this.messages.set(message.seq, message);
    for (const line of lines) this.#lineQuietly(line);
    this.changed();
  }

  #lineQuietly(line) {
    const lines = this.lines.get(line.after) ?? [];
    if (!lines.some(({ rev }) => rev === line.rev)) {
      this.lines.set(line.after, [...lines, line].sort((one, other) => one.rev - other.rev));
    }
  }

  /** Fetch what of a page is not stored, or is stale; once at a time, and not again at once after a failure. */
  async #fetch(page) {
    const { record, engine } = this;
    if (!record || this.busy.has(page) || engine.model.status.state !== 'online') return;
    if ((this.failed.get(page) ?? 0) > Date.now()) return;
    this.failed.delete(page);
    const from = Math.max(page * PAGE, record.first, 1);
    const to = Math.min(page * PAGE + PAGE - 1, record.head);
    let [low, high] = [Infinity, 0];
    for (let seq = from; seq <= to; seq++) {
      const message = this.messages.get(seq);
      if (message && !message.stale) continue;
      low = Math.min(low, seq);
      high = seq;
    }
    if (!high) return;
    this.busy.add(page);
    try {
      await engine.ask('fetch', this.chat, low - 1, high - low + 1);
      for (let seq = low; seq <= high; seq++) { // the tab that leads told of all that came
        const message = this.messages.get(seq);
        if (!message || message.stale) this.#later(page);
      }
    } catch {
      this.#later(page);
    }
    this.busy.delete(page);
    if (!this.closed) this.changed();
  }

  #later(page) {
    if (!this.failed.has(page)) setTimeout(() => { if (!this.closed) this.changed(); }, RETRY_MS + 50);
    this.failed.set(page, Date.now() + RETRY_MS);
  }

  /** Let go of the pages that nobody needed for longest: who ended a slow read may long be looking elsewhere. */
  #forget() {
    for (const page of this.read) {
      if (this.read.size <= KEEP) return;
      this.read.delete(page);
      for (let seq = page * PAGE; seq < (page + 1) * PAGE; seq++) this.messages.delete(seq);
    }
  }
}
