/* The one tab that holds the connection: frames in, commands of all tabs out. */

import { all, get, put } from '../store/database.js';
import { Pipeline } from '../store/pipeline.js';
import { Outbox } from './outbox.js';
import { OP, Refused, sleep } from './protocol.js';
import { Repair } from './repair.js';
import { Session } from './session.js';

const PROFILE_AGE_MS = 3600000;
const PROFILES_AT_ONCE = 6;
const PROFILES_WAITING = 2000;

export class Leader {
  /** `emit(events)` tells every tab, this one included. */
  static async start(db, user, emit) {
    const [credentials, cursor, records] = await Promise.all([
      get(db, 'meta', 'session'), get(db, 'meta', 'cursor'), all(db, 'chats')]);
    return new Leader(db, user, emit, credentials, cursor, new Map(records.map((record) => [record.chat, record])));
  }

  constructor(db, user, emit, credentials, cursor, chats) {
    Object.assign(this, { db, user, chats, cursor });
    this.emit = emit;
    this.pipeline = new Pipeline(db, user, chats, (events) => this.#stored(events),
      () => emit([{ type: 'trouble', code: 'storage' }]));
    this.session = new Session({
      credentials,
      keep: (next) => put(db, 'meta', { ...next }, 'session'),
      cursor: () => this.cursor,
      take: (frame, answering) => this.#take(frame, answering),
      ready: (value) => this.#ready(value),
      status: (status) => this.#status(status),
      pinged: () => this.#pinged(),
      pong: () => this.#pong(),
    });
    this.outbox = new Outbox(db, this.session, this.pipeline, credentials.device);
    this.repair = new Repair(chats, (...fields) => this.request(...fields));
    this.told = null; // chats of a full sync
    this.reads = new Map(); // chat → seq, written since the last PING
    this.confirming = new Map(); // written before it
    this.profiles = new Map(); // user → when asked
    this.profileQueue = [];
    this.session.start();
  }

  stop() {
    this.session.stop();
    this.pipeline.close();
  }

  // -- frames

  #ready({ resumed, limits }) {
    this.told = resumed ? null : new Set();
    this.confirming.clear(); // of a connection that is gone: `owed` still says it
    this.emit([{ type: 'limits', limits }]);
    this.outbox.opened();
    for (const { chat, owed } of this.chats.values()) if (owed) this.#writeRead(chat, owed);
    this.#nextProfiles();
  }

  #status(status) {
    if (status.state !== 'online') this.repair.synced = false;
    this.status = status;
    this.emit([{ type: 'status', status }]);
  }

  #take(frame, answering) {
    const [op, first, second] = frame;
    const { pipeline, told } = this;
    const page = op === OP.MSG && answering?.[0] === OP.FETCH && answering[2] === first;
    switch (op) {
      case OP.MSG: this.#data(pipeline.run((batch) => batch.message(frame, page)), first); break;
      case OP.CHANGE: this.#data(pipeline.run((batch) => batch.change(frame)), first); break;
      case OP.CHAT:
        told?.add(first);
        this.#data(pipeline.run((batch) => batch.chat(first, second, { full: !!told })), first);
        break;
      case OP.READBY: this.#data(pipeline.run((batch) => batch.readBy(first, second)), first); break;
      case OP.ACK: this.outbox.ack(frame).catch(() => {}); break;
      case OP.NACK: this.outbox.nack(frame).catch(() => {}); break;
      case OP.USER_TYPING: this.emit([{ type: 'typing', chat: first, user: second }]); break;
      case OP.NOTE: this.#note(first, second); break;
      case OP.SYNCED: this.#synced(first); break;
      default: // an op of a later version
    }
  }

  #data(stored, chat) {
    stored.then(() => {
      this.session.report();
      this.repair.look(chat);
    }, () => {});
  }

  #synced(cursor) {
    const { told } = this;
    this.told = null;
    this.pipeline.run((batch) => {
      if (told) for (const chat of [...this.chats.keys()]) if (!told.has(chat)) batch.drop(chat);
      batch.cursor(cursor);
    }).then(() => {
      this.cursor = cursor;
      this.repair.synced = true;
      if (this.status.state !== 'online') this.#status({ state: 'online' });
      this.repair.lookAtAll();
    }, () => {});
  }

  #note(kind, data) {
    if (kind === 'deleted') this.pipeline.run((batch) => batch.tombstone(data.chat, data.seq)).catch(() => {});
    if (kind === 'device') this.emit([{ type: 'devices' }]);
  }

  #stored(events) {
    this.emit(events.filter(({ type }) => type !== 'hole'));
    for (const event of events) if (event.type === 'hole') this.repair.fill(event);
  }

  // -- reading

  /** The person has seen this chat up to `seq`. */
  read(chat, seq) {
    const record = this.chats.get(chat);
    if (!record || seq <= record.read) return;
    this.pipeline.run((batch) => {
      const now = this.chats.get(chat);
      if (!now) return;
      now.read = now.owed = Math.max(now.read, seq);
      batch.touch(now);
      batch.event({ type: 'marks', chat, marks: [this.user, seq] });
    }).catch(() => {});
    this.#writeRead(chat, seq);
  }

  #writeRead(chat, seq) {
    if (!this.session.open) return;
    this.session.send(OP.READ, chat, seq);
    this.reads.set(chat, seq);
  }

  #pinged() {
    this.confirming = new Map([...this.confirming, ...this.reads]);
    this.reads = new Map();
  }

  /** Whatever was written before the PING that is answered now has arrived. */
  #pong() {
    const reads = this.confirming;
    this.confirming = new Map();
    if (!reads.size) return;
    this.pipeline.run((batch) => {
      for (const [chat, seq] of reads) {
        const record = this.chats.get(chat);
        if (record?.owed === seq) {
          record.owed = 0;
          batch.touch(record);
        }
      }
    }).catch(() => {});
  }

  // -- commands of tabs

  typing(chat) {
    this.session.send(OP.TYPING, chat);
  }

  flush() {
    return this.outbox.flush();
  }

  wake() {
    this.session.wake();
  }

  /** Take the connection back after `replaced`. */
  start() {
    if (this.session.stopped) this.session.start();
  }

  /** How things are, for a tab that begins; after `expired`, perhaps with tokens of a new sign-in. */
  async hello() {
    const next = this.status.state === 'expired' && await get(this.db, 'meta', 'session');
    if (next && next.token !== this.session.credentials.token) {
      Object.assign(this.session.credentials, next);
      this.outbox.device = next.device;
      this.session.start();
    }
    return { status: this.status, limits: this.session.limits };
  }

  /** A request, tried again when the server is busy; resolves when all that it brought is stored. */
  async request(op, ...fields) {
    for (let attempt = 0; ; attempt++) {
      try {
        const value = await this.session.request(op, ...fields);
        await this.pipeline.run(() => {});
        return value;
      } catch (error) {
        if (error.code !== 'rate_limited' || !error.retryAfter || attempt === 3) throw error;
        await sleep(error.retryAfter);
      }
    }
  }

  fetch(chat, from, limit) {
    return this.request(OP.FETCH, chat, from, limit);
  }

  async call(method, params = {}) {
    const value = await this.request(OP.CALL, method, params);
    if (method === 'chat.create' || method === 'chat.get') {
      const { chat, ...state } = value;
      await this.pipeline.run((batch) => batch.chat(chat, state));
    } else if (method === 'message.delete' && params.scope === 'me') {
      await this.pipeline.run((batch) => batch.tombstone(params.chat, params.seq));
    } else if (method === 'chat.watermarks') {
      this.emit([{ type: 'marks', chat: params.chat, marks: value.flat(), full: true }]);
    } else if (method === 'chat.members') {
      await this.#learn(value.map(({ user, name }) => ({ user, name })));
    } else if (method === 'profile.update' || method === 'profile.get') {
      await this.#learn([{ ...value, at: Date.now() }]);
    } else if (method === 'user.find') await this.#learn([value]);
    return value;
  }

  /** Bring the profiles of these users, unless they were brought lately. */
  learn(users) {
    const now = Date.now();
    for (const user of users) {
      if (this.profileQueue.length >= PROFILES_WAITING) break;
      if (now - (this.profiles.get(user) ?? -Infinity) < PROFILE_AGE_MS) continue;
      this.profiles.set(user, now);
      this.profileQueue.push(user);
    }
    this.#nextProfiles();
  }

  async #nextProfiles() {
    if (this.asking || !this.session.open) return;
    this.asking = true;
    while (this.profileQueue.length) {
      const users = this.profileQueue.splice(0, PROFILES_AT_ONCE);
      await Promise.all(users.map((user) => this.call('profile.get', { user }).catch((error) => {
        if (error instanceof Refused && error.code !== 'not_found') this.profiles.delete(user);
      })));
    }
    this.asking = false;
  }

  #learn(found) {
    return this.pipeline.run(async (batch) => {
      for (const user of found) {
        const store = batch.store('users');
        const old = await new Promise((resolve) => {
          const request = store.get(user.user);
          request.onsuccess = () => resolve(request.result);
        });
        const next = { ...old, ...user };
        if (old && Object.keys(next).every((key) => key === 'at' || next[key] === old[key])) continue;
        store.put(next);
        batch.event({ type: 'user', user: next });
      }
    });
  }
}
