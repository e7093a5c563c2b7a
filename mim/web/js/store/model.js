/* What one tab knows, in memory: loaded from the database, kept up by the events of the leader.

   `on(type, listener)` hears of events after they are applied; types are those of store/batch.js and
   connection/leader.js. */

import { all, get } from './database.js';

const TYPING_MS = 5000;

export class Model {
  constructor(me) {
    this.me = me;
    this.session = null;
    this.status = { state: 'connecting' };
    this.limits = { text: 10000 };
    this.chats = new Map();
    this.users = new Map();
    this.outbox = new Map(); // cid → item
    this.drafts = new Map();
    this.marks = new Map(); // chat → Map of user → seq, for chats that were opened
    this.typists = new Map(); // chat → Map of user → timer
    this.listeners = new Map();
    this.early = [];
    this.loaded = false;
  }

  async load(db) {
    this.loaded = false;
    const [session, chats, users, outbox, drafts] = await Promise.all([
      get(db, 'meta', 'session'), all(db, 'chats'), all(db, 'users'), all(db, 'outbox'), all(db, 'drafts')]);
    this.session = session;
    this.chats = new Map(chats.map((record) => [record.chat, record]));
    this.users = new Map(users.map((user) => [user.user, user]));
    this.outbox = new Map(outbox.map((item) => [item.cid, item]));
    this.drafts = new Map(drafts.map(({ chat, text }) => [chat, text]));
    this.loaded = true;
    this.apply(this.early.splice(0));
    this.#tell({ type: 'reset' });
  }

  on(type, listener) {
    if (!this.listeners.has(type)) this.listeners.set(type, new Set());
    this.listeners.get(type).add(listener);
    return () => this.listeners.get(type).delete(listener);
  }

  #tell(event) {
    for (const type of [event.type, '*']) for (const listener of this.listeners.get(type) ?? []) listener(event);
  }

  /** Take events in their order. While the database is being read they wait. */
  apply(events) {
    if (!this.loaded) {
      this.early.push(...events);
      return;
    }
    for (const event of events) {
      this[`_${event.type}`]?.(event);
      this.#tell(event);
    }
    if (events.length) this.#tell({ type: 'changed', events });
  }

  _status({ status }) {
    this.status = status;
  }

  _limits({ limits }) {
    Object.assign(this.limits, limits);
  }

  _chat({ chat, record }) {
    if ((this.chats.get(chat)?.v ?? 0) <= record.v) this.chats.set(chat, record);
  }

  _gone({ chat }) {
    this.chats.delete(chat);
    this.marks.delete(chat);
  }

  _message({ chat, message }) {
    this.#typed(chat, message.sender);
  }

  _outbox({ item }) {
    this.outbox.set(item.cid, item);
  }

  _sent({ cid }) {
    this.outbox.delete(cid);
  }

  _unsent({ cid }) {
    this.outbox.delete(cid);
  }

  _draft({ chat, text }) {
    if (text) this.drafts.set(chat, text);
    else this.drafts.delete(chat);
  }

  _user({ user }) {
    this.users.set(user.user, user);
  }

  _marks({ chat, marks, full }) {
    let known = this.marks.get(chat) ?? new Map();
    if (full) { // only present members count; what came before this answer may be newer than it
      const before = known.set(this.me, Math.max(known.get(this.me) ?? 0, this.chats.get(chat)?.read ?? 0));
      known = Object.assign(new Map(), { full });
      for (let index = 0; index < marks.length; index += 2) known.set(marks[index], before.get(marks[index]) ?? 0);
    }
    for (let index = 0; index < marks.length; index += 2) {
      const [user, seq] = [marks[index], marks[index + 1]];
      if (known.has(user) || !known.full) known.set(user, Math.max(known.get(user) ?? 0, seq));
    }
    this.marks.set(chat, known);
    known.sorted = null;
  }

  _typing({ chat, user }) {
    this.#typed(chat, user);
    if (!this.typists.has(chat)) this.typists.set(chat, new Map());
    const timer = setTimeout(() => {
      this.#typed(chat, user);
      this.#tell({ type: 'typing', chat });
    }, TYPING_MS);
    this.typists.get(chat).set(user, timer);
  }

  #typed(chat, user) {
    clearTimeout(this.typists.get(chat)?.get(user));
    this.typists.get(chat)?.delete(user);
  }

  // -- questions

  /** How many present members, the sender not counted, have not read message `seq`; null while that is not known. */
  unreadBy(chat, seq, sender) {
    const marks = this.marks.get(chat);
    if (!marks?.full) return null;
    marks.sorted ??= [...marks.values()].sort((one, other) => one - other);
    let [low, high] = [0, marks.sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (marks.sorted[middle] < seq) low = middle + 1;
      else high = middle;
    }
    return low - (marks.has(sender) && marks.get(sender) < seq ? 1 : 0);
  }

  unread(record) {
    return Math.max(0, record.head - Math.max(record.read, record.first - 1));
  }

  totalUnread() {
    let total = 0;
    for (const record of this.chats.values()) if (!record.muted) total += this.unread(record);
    return total;
  }

  waiting(chat) {
    return [...this.outbox.values()].filter((item) => item.chat === chat).sort((one, other) => one.cid - other.cid);
  }

  activity(record) {
    const waiting = this.waiting(record.chat).at(-1)?.at ?? 0;
    return Math.max(record.last?.at ?? record.seenAt, waiting);
  }

  /** Chats as the list shows them: pinned first, then by activity. */
  sorted() {
    return [...this.chats.values()]
      .map((record) => ({ record, at: this.activity(record) }))
      .sort((one, other) => other.record.pinned - one.record.pinned || other.at - one.at
        || other.record.chat - one.record.chat)
      .map(({ record }) => record);
  }
}
