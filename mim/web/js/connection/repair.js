/* Asks for what did not come by itself: messages in a hole, changes up to `rev`, the newest messages up to `head`. */

import { OP, sleep } from './protocol.js';

const SWAP_MS = 150; // between nodes two live frames may swap (proto/messages.md#sequence)
const ATTEMPTS = 4;
const PAGE = 200;

const lacks = ({ have, head, first }) => have < head && head >= first;

export class Repair {
  /** `request(op, ...)` resolves once what it brought is stored. */
  constructor(chats, request) {
    this.chats = chats;
    this.request = request;
    this.busy = new Set();
    this.synced = false;
  }

  /** Look after a chat that was touched. */
  look(chat) {
    const record = this.chats.get(chat);
    if (!this.synced || !record || this.busy.has(chat)) return;
    if (record.applied < record.rev || lacks(record)) this.#work(chat);
  }

  lookAtAll() {
    for (const chat of this.chats.keys()) this.look(chat);
  }

  async fill({ chat, after, count }) {
    await sleep(SWAP_MS);
    await this.request(OP.FETCH, chat, after, count).catch(() => {});
  }

  async #work(chat) {
    this.busy.add(chat);
    await sleep(SWAP_MS);
    for (let attempt = 0; attempt < ATTEMPTS && this.synced; attempt++) {
      const record = this.chats.get(chat);
      if (!record) break;
      const { applied, rev, have, head } = record;
      try {
        if (lacks(record)) {
          const few = have >= record.first - 1 && head - have <= PAGE;
          await (few ? this.request(OP.FETCH, chat, have, PAGE) : this.request(OP.FETCH, chat, 0, -50));
        } else if (applied < rev) await this.request(OP.CHANGES, chat, applied, PAGE);
        else break;
      } catch (error) {
        if (error.code === 'lost' || error.code === 'offline') break;
        await sleep(error.retryAfter ?? 1000);
      }
      const now = this.chats.get(chat);
      if (now && (now.applied > applied || now.have > have)) attempt = -1; // it moves: go on as long as it does
    }
    this.busy.delete(chat);
  }
}
