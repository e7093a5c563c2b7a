/* Everything that changes what this device knows goes through here, in order, and into the database first.

   Steps that wait together share one transaction; when it is committed, the events it caused go to all tabs. So tabs
   agree, whatever they show is stored, and the cursor of a SYNCED is never ahead of what it covers
   (proto/session.md#cursor). */

import { Batch } from './batch.js';
import { finished, names } from './database.js';

const LARGEST_BATCH = 500;

export class Pipeline {
  /** `emit(events)` after each commit; `failed(error)` when the database refuses to store. */
  constructor(db, me, chats, emit, failed) {
    Object.assign(this, { db, me, chats, emit, failed });
    this.recent = new Map(); // edits and deletions of messages that are not here yet: a page on its way may be older
    this.steps = [];
    this.running = false;
    this.closed = false;
  }

  /** Run `step(batch)` in its turn; resolves with its value once that is stored. */
  run(step) {
    return new Promise((resolve, reject) => {
      this.steps.push({ step, resolve, reject });
      if (!this.running) this.#work();
    });
  }

  async #work() {
    this.running = true;
    while (this.steps.length && !this.closed) {
      const steps = this.steps.splice(0, LARGEST_BATCH);
      try {
        const transaction = this.db.transaction(names, 'readwrite');
        const stored = finished(transaction);
        const batch = new Batch(transaction, this);
        const values = [];
        try {
          for (const { step } of steps) values.push(await step(batch));
          batch.finish();
        } catch (error) {
          transaction.abort();
          await stored.catch(() => {});
          throw error;
        }
        await stored;
        this.emit(batch.events);
        steps.forEach(({ resolve }, index) => resolve(values[index]));
      } catch (error) {
        steps.forEach(({ reject }) => reject(error));
        if (!this.closed) this.failed(error);
      }
    }
    this.running = false;
  }

  /** Store nothing more. */
  close() {
    this.closed = true;
  }
}
