/* What the views talk to. Several tabs of one browser are one device to the server, which lets only one connection of
   a device live. So the tabs elect a leader with a Web Lock: it holds the connection, and the others ask it and hear
   of everything by a BroadcastChannel. When it closes, the lock passes to the next tab, which connects and resumes. */

import { Model } from '../store/model.js';
import { deleteDatabase, openDatabase, put, queueMessage, remove } from '../store/database.js';
import { Leader } from './leader.js';
import { Refused } from './protocol.js';

const ANSWER_MS = 20000;
const REPEATABLE = new Set(['fetch', 'hello', 'learn', 'flush', 'wake', 'read', 'typing', 'start']);

export class Engine {
  /** Open an account of this browser; Refused `signed_out` when it has no tokens here. */
  static async open(user) {
    const db = await openDatabase(user);
    const engine = new Engine(user, db);
    await engine.model.load(db);
    if (!engine.model.session) {
      db.close();
      await deleteDatabase(user);
      throw new Refused('signed_out');
    }
    engine.#join();
    return engine;
  }

  constructor(user, db) {
    this.user = user;
    this.db = db;
    this.model = new Model(user);
    this.leader = null;
    this.asks = new Map(); // id → {name, args, resolve, reject, timer}
    this.tab = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
    this.count = 0;
  }

  // -- the election

  #join() {
    this.channel = typeof BroadcastChannel === 'function' ? new BroadcastChannel(`mim-${this.user}`) : null;
    if (this.channel) this.channel.onmessage = ({ data }) => this.#hear(data);
    // Without Web Locks (a page that is not secure) each tab is for itself, and the server's `replaced` decides.
    if (navigator.locks) {
      navigator.locks.request(`mim-${this.user}`, () => this.#lead()).catch(() => {});
    } else this.#lead();
    this.#greet();
    for (const [target, event] of [[window, 'online'], [document, 'visibilitychange']]) {
      target.addEventListener(event, () => { if (!document.hidden) this.ask('wake').catch(() => {}); });
    }
  }

  /** Hold the lock for as long as this tab lives. */
  async #lead() {
    if (this.closed) return;
    await this.model.load(this.db); // the tab that led before may have stored more than it could tell
    const leader = await Leader.start(this.db, this.user, (events) => this.#emit(events));
    this.leader = leader;
    this.#say({ kind: 'leader' });
    for (const [id, ask] of this.asks) this.#answer(ask).then(ask.resolve, ask.reject).then(() => this.#settled(id));
    await new Promise((release) => { this.release = release; });
    leader.stop();
  }

  async #greet() {
    const { status, limits } = await this.ask('hello').catch(() => ({}));
    if (status) this.model.apply([{ type: 'status', status }, { type: 'limits', limits }]);
  }

  #emit(events) {
    if (!events.length) return;
    this.#say({ kind: 'events', events });
    this.model.apply(events);
  }

  // -- between tabs

  #say(message) {
    this.channel?.postMessage(message);
  }

  async #hear({ kind, ...message }) {
    if (kind === 'events') this.model.apply(message.events);
    else if (kind === 'leader') this.#ledByAnother();
    else if (kind === 'ask' && this.leader) {
      const answer = await this.#answer(message).then((value) => ({ value }),
        ({ code = 'internal', retryAfter }) => ({ code, retryAfter }));
      this.#say({ kind: 'answer', id: message.id, ...answer });
    } else if (kind === 'answer') {
      const ask = this.asks.get(message.id);
      if (!ask) return;
      this.#settled(message.id);
      if (message.code) ask.reject(new Refused(message.code, '', message.retryAfter));
      else ask.resolve(message.value);
    }
  }

  /** What the tab before may have done is not asked for twice, unless that does no harm. */
  #ledByAnother() {
    for (const [id, ask] of this.asks) {
      if (REPEATABLE.has(ask.name)) this.#say({ kind: 'ask', id, name: ask.name, args: ask.args });
      else {
        this.#settled(id);
        ask.reject(new Refused('lost'));
      }
    }
    this.#greet();
  }

  async #answer({ name, args }) {
    return this.leader[name](...args);
  }

  #settled(id) {
    clearTimeout(this.asks.get(id)?.timer);
    this.asks.delete(id);
  }

  /** Have the leader, wherever it is, carry out one of its commands. */
  ask(name, ...args) {
    if (this.leader) return this.#answer({ name, args });
    return new Promise((resolve, reject) => {
      const id = `${this.tab}/${++this.count}`;
      const timer = setTimeout(() => {
        this.#settled(id);
        reject(new Refused('offline'));
      }, ANSWER_MS);
      this.asks.set(id, { name, args, resolve, reject, timer });
      this.#say({ kind: 'ask', id, name, args });
    });
  }

  // -- what people do

  call(method, params) {
    return this.ask('call', method, params);
  }

  /** Queue a message. It is stored with its cid before this resolves, and sent when there is a connection. */
  async send(chat, body) {
    const item = await queueMessage(this.db, { chat, body });
    this.#emit([{ type: 'outbox', item }]);
    this.ask('flush').catch(() => {});
    return item;
  }

  /** Take a failed message back, as before sending it anew. */
  async unsend(cid) {
    await remove(this.db, 'outbox', cid);
    this.#emit([{ type: 'unsent', cid }]);
  }

  async draft(chat, text) {
    if ((this.model.drafts.get(chat) ?? '') === text) return;
    this.#emit([{ type: 'draft', chat, text }]);
    await (text ? put(this.db, 'drafts', { chat, text }) : remove(this.db, 'drafts', chat));
  }

  /** Tell the other tabs. */
  tell(events) {
    this.#say({ kind: 'events', events });
  }

  /** Let go of the connection, the channel and the database. */
  close() {
    this.closed = true;
    this.release?.();
    this.leader?.stop();
    this.leader = null;
    this.channel?.close();
    this.channel = null;
    this.db.close();
  }
}
