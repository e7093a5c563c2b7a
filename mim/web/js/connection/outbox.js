/* Sends what waits in the database, in the order of its cids, each until it has an ACK or a lasting NACK
   (proto/messages.md#ack). What was sent but not answered is sent again after reconnecting, with the same cid. */

import { all } from '../store/database.js';
import { OP } from './protocol.js';

const PASSING = new Set(['rate_limited', 'unavailable', 'internal']);
const MOST_STUMBLES = 5;

export class Outbox {
  constructor(db, session, pipeline, device) {
    Object.assign(this, { db, session, pipeline, device });
    this.sent = new Set(); // cids on the way on this connection
    this.stumbles = new Map(); // cid → NACK internal
    this.pausedUntil = 0;
    this.flushing = false;
    this.again = false;
  }

  /** A connection opened: nothing is on the way. */
  opened() {
    this.sent.clear();
    this.pausedUntil = 0;
    return this.flush();
  }

  /** Send what is due. Any tab may have queued something. */
  async flush() {
    if (this.flushing) {
      this.again = true;
      return;
    }
    this.flushing = true;
    do {
      this.again = false;
      if (!this.session.open || Date.now() < this.pausedUntil) break;
      const { wire } = this.session;
      const items = await all(this.db, 'outbox');
      if (wire !== this.session.wire) {
        this.again = true;
        continue;
      }
      for (const { cid, chat, body, state, device } of items) {
        if (state !== 'pending' || this.sent.has(cid)) continue;
        if (device !== this.device) { // queued before signing in anew: whether it arrived, only a person can tell
          this.pipeline.run((batch) => batch.refused(cid, 'unknown'));
          continue;
        }
        if (this.sent.size >= this.session.limits.inflight) break;
        this.sent.add(cid);
        this.session.send(OP.SEND, cid, chat, body);
      }
    } while (this.again);
    this.flushing = false;
  }

  async ack([, cid, seq, at]) {
    await this.pipeline.run((batch) => batch.acked(cid, seq, at));
    this.sent.delete(cid);
    this.stumbles.delete(cid);
    if (this.sent.size === 0) this.flush();
  }

  async nack([, cid, code, , retryAfter]) {
    this.sent.delete(cid);
    const stumbles = (this.stumbles.get(cid) ?? 0) + 1;
    this.stumbles.set(cid, stumbles);
    if (PASSING.has(code) && !(code === 'internal' && stumbles > MOST_STUMBLES)) {
      const wait = retryAfter ?? Math.min(30000, 500 * 2 ** stumbles);
      this.pausedUntil = Math.max(this.pausedUntil, Date.now() + wait);
      setTimeout(() => this.flush(), wait + 5);
      return;
    }
    await this.pipeline.run((batch) => batch.refused(cid, code));
  }
}
