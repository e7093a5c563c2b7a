/* How each frame changes what is stored: one method a kind, inside one transaction.

   A chat's record is the server's state of it (proto/frames.md#chat) and four things of this device:
     have       newest seq that is stored here
     applied    newest rev that is applied here; `rev` is what the chat has
     stateRev   the rev of the state itself, which already shows changes up to it
     owed       a READ that the server has not surely got
   `last` is the newest message, for the list. `v` rises with each version, so that a tab never goes back. */

import { range, result, seqs } from './database.js';

const RECENT = 200;
const REPAIRABLE = 200; // a longer hole is filled when somebody looks at it

export class Batch {
  constructor(transaction, { me, chats, recent }) {
    Object.assign(this, { me, chats, recent });
    this.events = [];
    this.dirty = new Set();
    this.holes = [];
    this.transaction = transaction;
  }

  store(name) {
    return this.transaction.objectStore(name);
  }

  event(event) {
    this.events.push(event);
  }

  touch(record) {
    record.v = (record.v ?? 0) + 1;
    this.dirty.add(record);
  }

  finish() {
    for (const record of this.dirty) {
      if (this.chats.get(record.chat) !== record) continue;
      this.store('chats').put(record);
      this.event({ type: 'chat', chat: record.chat, record: { ...record } });
    }
    for (const hole of this.holes) this.event({ type: 'hole', ...hole });
  }

  // -- chats

  /** CHAT, or the value of a method that tells a chat's state. */
  chat(chat, state, { full = false } = {}) {
    let record = this.chats.get(chat);
    if (state.kind === 'left') {
      this.drop(chat);
      return;
    }
    if (record && full && state.head < record.head) { // the server was set back to a backup
      this.drop(chat);
      record = undefined;
    }
    if (record && state.first > record.first) this.forgetBelow(chat, state.first);
    const newer = !record || state.rev >= record.stateRev;
    const next = {
      notice: null, have: 0, owed: 0, last: null, seenAt: Math.floor(Date.now() / 1000), applied: state.rev,
      ...record, ...state, chat,
      head: Math.max(state.head, record?.head ?? 0),
      rev: Math.max(state.rev, record?.rev ?? 0),
      read: Math.max(state.read, record?.read ?? 0),
      count: newer ? state.count : record.count,
      stateRev: Math.max(state.rev, record?.stateRev ?? 0),
    };
    next.notice = state.notice ?? null;
    if (record && record.last && record.last.seq < next.first) next.last = null;
    this.chats.set(chat, next);
    this.dirty.delete(record);
    this.touch(next);
  }

  drop(chat) {
    this.chats.delete(chat);
    this.store('chats').delete(chat);
    this.store('messages').delete(seqs(chat, 0, Infinity));
    this.store('lines').delete(range(chat, 0, Infinity));
    this.event({ type: 'gone', chat });
  }

  forgetBelow(chat, first) {
    this.store('messages').delete(seqs(chat, 0, first - 1));
    this.store('lines').delete(range(chat, 0, first - 2));
  }

  // -- messages

  /** MSG of any cause. `page` says that it answers a FETCH, so that its state is the present one. */
  async message([, chat, seq, sender, at, body, meta], page = false) {
    const record = this.chats.get(chat);
    if (!record || seq < record.first) return;
    if (seq > record.have + 1 && record.have >= record.first && !page) {
      const missing = seq - record.have - 1;
      if (missing <= REPAIRABLE) this.holes.push({ chat, after: record.have, count: missing });
    }
    const message = this.#renewed({ chat, seq, sender, at, body, ...known(meta) });
    const old = await result(this.store('messages').get([chat, seq]));
    // One per (chat, seq): a tombstone first, then what a page or the sync brought (proto/messages.md#sequence).
    if (!old || (!old.deleted && (page || meta))) this.put(message);
    this.reached(record, message, old);
  }

  /** ACK: the waiting message has its place. */
  async acked(cid, seq, at) {
    const item = await result(this.store('outbox').get(cid));
    if (!item) return;
    this.store('outbox').delete(cid);
    const record = this.chats.get(item.chat);
    this.event({ type: 'sent', cid, chat: item.chat, seq });
    if (!record) return;
    const message = { chat: item.chat, seq, sender: this.me, at, body: item.body };
    const old = await result(this.store('messages').get([item.chat, seq]));
    if (!old) this.put(message);
    this.reached(record, old ?? message, old);
  }

  async refused(cid, code) {
    const item = await result(this.store('outbox').get(cid));
    if (!item) return;
    const failed = { ...item, state: 'failed', code };
    this.store('outbox').put(failed);
    this.event({ type: 'outbox', item: failed });
  }

  put(message) {
    this.store('messages').put(message);
    this.event({ type: 'message', chat: message.chat, message });
  }

  reached(record, message, old) {
    const { seq, sender } = message;
    record.have = Math.max(record.have, seq);
    record.head = Math.max(record.head, seq);
    if (sender === this.me) record.read = Math.max(record.read, seq);
    if (sender && !old) this.event({ type: 'marks', chat: record.chat, marks: [sender, seq] });
    if (!record.last || seq > record.last.seq || (seq === record.last.seq && !record.last.deleted)) {
      record.last = summary(message);
    }
    this.touch(record);
  }

  /** What is gone for this user alone (NOTE `deleted`, or an own request). */
  async tombstone(chat, seq) {
    const old = await result(this.store('messages').get([chat, seq]));
    const record = this.chats.get(chat);
    if (old) this.put(emptied(old));
    if (record?.last?.seq === seq) {
      record.last = { ...record.last, text: '', kind: null, deleted: true };
      this.touch(record);
    }
  }

  // -- changes

  /** CHANGE: only the next one is applied; one from further on is asked for again by its gap. */
  async change([, chat, rev, kind, user, at, data]) {
    const record = this.chats.get(chat);
    if (!record || rev <= record.applied) return;
    record.rev = Math.max(record.rev, rev);
    record.head = Math.max(record.head, data.after ?? 0);
    if (rev === record.applied + 1) {
      record.applied = rev;
      await this.#apply(record, { rev, kind, user, at, data });
    }
    this.touch(record);
  }

  async #apply(record, { rev, kind, user, at, data }) {
    const { chat } = record;
    if (kind === 'edit' || kind === 'delete' || kind === 'react') {
      const complete = kind === 'delete' || (kind === 'edit' ? 'body' in data : 'reaction' in data);
      if (!complete) return; // withheld (proto/changes.md#data-without-content)
      const old = await result(this.store('messages').get([chat, data.seq]));
      if (!old) this.#remember(`${chat}/${data.seq}`, { kind, at, body: data.body });
      if (!old || old.deleted) return;
      if (kind === 'edit') this.put({ ...old, body: data.body, edited: at });
      else if (kind === 'delete') this.put(emptied(old, at));
      else this.put({ ...old, stale: true }); // which reaction it replaced is not told: fetched when seen
      if (record.last?.seq === data.seq && kind !== 'react') {
        record.last = summary(kind === 'edit' ? { ...old, body: data.body } : emptied(old, at));
      }
      return;
    }
    if (Object.keys(data).every((key) => key === 'after' || key === 'seq') && kind !== 'leave') return;
    if (['join', 'leave', 'kick', 'role', 'title', 'notice'].includes(kind)) {
      const line = { chat, after: data.after, rev, kind, user, at, data };
      this.store('lines').put(line);
      this.event({ type: 'line', chat, line });
    }
    if (['join', 'leave', 'kick', 'role'].includes(kind)) this.event({ type: 'members', chat });
    if (rev <= record.stateRev) return; // the state shows it already
    record.stateRev = rev;
    if (kind === 'title' || kind === 'notice') record[kind] = data[kind];
    else if (kind === 'join') record.count += data.users.length;
    else if (kind === 'kick') record.count -= data.users.length;
    else if (kind === 'leave') record.count -= 1;
    else if (kind === 'role') this.#role(record, user, data);
  }

  #remember(key, change) {
    if (change.kind === 'react') return;
    this.recent.delete(key);
    this.recent.set(key, change);
    if (this.recent.size > RECENT) this.recent.delete(this.recent.keys().next().value);
  }

  #renewed(message) {
    const change = this.recent.get(`${message.chat}/${message.seq}`);
    if (!change || message.deleted || change.at < (message.edited ?? 0)) return message;
    return change.kind === 'delete' ? emptied(message, change.at) : { ...message, body: change.body, edited: change.at };
  }

  #role(record, by, { user, role }) {
    if (user === this.me) record.role = role;
    else if (role === 'owner' && by === this.me && record.role === 'owner') record.role = 'manager';
  }

  // -- the rest

  readBy(chat, marks) {
    const record = this.chats.get(chat);
    if (!record) return;
    this.event({ type: 'marks', chat, marks });
    for (let index = 0; index < marks.length; index += 2) {
      if (marks[index] === this.me && marks[index + 1] > record.read) {
        record.read = marks[index + 1];
        this.touch(record);
      }
      if (marks[index + 1] > record.head) {
        record.head = marks[index + 1];
        this.touch(record);
      }
    }
  }

  cursor(value) {
    this.store('meta').put(value, 'cursor');
  }
}

const known = ({ edited, deleted, reactions, mine } = {}) => ({
  ...(edited && { edited }), ...(deleted && { deleted }), ...(reactions && { reactions }), ...(mine && { mine }),
});

const emptied = ({ chat, seq, sender, at }, when = Math.floor(Date.now() / 1000)) => (
  { chat, seq, sender, at, body: '', deleted: when });

export const textOf = (body) => (typeof body === 'string' ? body : body?.t ?? '');

const summary = ({ seq, sender, at, body, deleted }) => (
  { seq, sender, at, text: [...textOf(body).slice(0, 400)].slice(0, 200).join(''), kind: body?.k ?? null, deleted: !!deleted });
