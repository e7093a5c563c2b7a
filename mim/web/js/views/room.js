/* An open chat: its head, the messages, the composer; and what is read of it. */

import { t } from '../i18n/index.js';
import { Timeline } from '../store/timeline.js';
import { Composer } from './composer.js';
import { bdi, eachFrame, h, icon, iconButton, replace } from './dom.js';
import { count } from './format.js';
import { describe, describeWaiting, messageRow, waitingRow } from './message.js';
import { announce, attempt } from './notice.js';
import { onMenu } from './press.js';
import { excerpt, textOf } from './text.js';
import { VirtualList } from './virtual-list.js';

const WIDEST = 100000; // rows that the list spans at once
const MORE = 20000;

export class Room {
  constructor(app, chat) {
    Object.assign(this, { app, chat, engine: app.engine, model: app.engine.model, names: app.names });
    this.unfolded = new Set();
    this.flash = null;
    this.last = -Infinity; // the last row that is in view
    this.unreadFrom = this.#firstUnread();
    this.draw = eachFrame(() => this.#draw());
    this.timeline = new Timeline(this.engine, chat, this.draw);
    this.element = this.#build();
    this.list = new VirtualList({
      scroller: this.scroller, list: this.rows, row: (index) => this.#row(index), shown: (first, last) => this.#shown(first, last) });
    this.off = [
      this.model.on('changed', ({ events }) => this.#changed(events)),
      this.model.on('typing', (event) => event.chat === chat && this.#typing()),
      this.model.on('reset', () => this.draw()),
    ];
    this.visible = () => {
      if (document.hidden) return;
      this.#read();
      this.draw();
    };
    document.addEventListener('visibilitychange', this.visible);
    this.#members();
    this.#span();
  }

  get record() {
    return this.timeline.record;
  }

  #firstUnread() {
    const record = this.model.chats.get(this.chat);
    const from = Math.max(record.read + 1, record.first);
    return from <= record.head && from > record.first ? from : null;
  }

  close() {
    this.closed = true;
    this.off.forEach((off) => off());
    document.removeEventListener('visibilitychange', this.visible);
    this.timeline.close();
    this.list.close();
    this.composer.close();
    this.element.remove();
  }

  // -- the frame around

  #build() {
    this.head = h('header.room-head', {});
    this.notice = h('div.notice', { hidden: true });
    this.rows = h('ol.rows', { role: 'list' });
    this.scroller = h('div.scroller', { tabindex: 0, role: 'region', 'aria-label': t('messages'), onkeydown: (event) => this.#key(event) }, this.rows);
    this.empty = h('div.empty', { hidden: true }, h('p', {}, t('room_empty')));
    this.newest = h('button.newest', { type: 'button', hidden: true, onclick: () => this.toNewest() });
    this.typing = h('p.typing', { 'aria-live': 'off' });
    this.composer = new Composer(this);
    onMenu(this.rows, (target) => target.closest('.row[data-seq]'), (row, x, y) => this.#menu(Number(row.dataset.seq), { x, y }));
    return h('section.room', { 'aria-label': t('room') }, this.head, this.notice,
      h('div.messages', {}, this.scroller, this.empty, this.newest), this.typing, this.composer.element);
  }

  #drawHead() {
    const { record } = this;
    const name = this.names.chat(record);
    const sign = JSON.stringify([name, record, this.names.hue(record.peer ?? 0), this.model.users.get(record.peer)]);
    if (sign === this.headSign) return;
    this.headSign = sign;
    const group = record.kind === 'group';
    const status = this.model.users.get(record.peer)?.status;
    replace(this.head,
      iconButton('back', t('back'), () => this.app.go(null), { class: 'icon-button only-narrow' }),
      h('button.room-title', { type: 'button', onclick: () => this.app.open('about', this), 'aria-label': t('about', { name }) },
        this.names.chatAvatar(record),
        h('span.room-name', {}, h('h1', {}, bdi(name)),
          h('span.faint', { dir: 'auto' }, group ? t('members', { n: record.count }) : excerpt(status ?? '', 60)))),
      record.muted && h('span.faint', { title: t('muted') }, icon('mute')),
      iconButton('search', t('search_here'), () => this.app.open('search', this.chat)),
      iconButton('menu', t('about', { name }), () => this.app.open('about', this)));
    const text = record.notice;
    this.notice.hidden = !text;
    if (text) {
      replace(this.notice, icon('notice'), h('button.notice-text', { type: 'button', dir: 'auto', title: t('notice'),
        onclick: () => this.notice.classList.toggle('notice-open') }, text));
    }
  }

  async #members() {
    const ask = (method) => this.engine.call(method, { chat: this.chat }).catch(() => null);
    const [marks, members] = await Promise.all([ask('chat.watermarks'), ask('chat.members')]);
    if (members) this.members = members;
    this.incomplete = !marks || !members;
    this.draw();
  }

  // -- rows

  #span() {
    const { record } = this;
    this.waiting = this.model.waiting(this.chat);
    this.low = Math.max(record.first, Math.min(this.low ?? Infinity, record.head - WIDEST), 1);
    this.list.setRange(this.low, Math.max(record.head, this.low - 1) + this.waiting.length);
    this.empty.hidden = record.head >= record.first || this.waiting.length > 0;
    if (!this.opened) this.#open();
  }

  /** The first look: at the unread line, else at the newest. */
  async #open() {
    this.opened = true;
    const { head } = this.record;
    const from = this.unreadFrom ?? head;
    await this.timeline.need(Math.max(from - 40, 1), Math.min(from + 40, head));
    if (this.closed) return;
    this.ready = true;
    if (this.target) this.jump(this.target);
    else if (this.unreadFrom && head - this.unreadFrom > 3) this.list.toRow(this.unreadFrom, 0.2);
    else this.list.toBottom();
    this.element.dataset.ready = 'true';
  }

  #context() {
    return { timeline: this.timeline, model: this.model, names: this.names, unreadFrom: this.unreadFrom, unfolded: this.unfolded,
      flash: this.flash, group: this.record?.kind === 'group', on: this.#actions };
  }

  #actions = {
    quote: (seq) => this.jump(seq),
    fold: (seq) => { this.unfolded.add(seq); this.list.render(); },
    react: (message, reaction) => this.react(message, reaction),
    menu: (seq, event) => {
      const box = event.currentTarget.getBoundingClientRect();
      this.#menu(seq, { x: box.left, y: box.bottom });
    },
    failed: (item) => import('./message-menu.js').then(({ failedMenu }) => failedMenu(this, item)),
  };

  async #menu(seq, place) {
    const message = this.timeline.message(seq);
    if (!message?.sender || message.deleted) return;
    const { messageMenu } = await import('./message-menu.js');
    messageMenu(this, message, place);
  }

  /** Set or take back the own reaction. */
  react(message, reaction) {
    return attempt(this.engine.call('message.react', {
      chat: this.chat, seq: message.seq, reaction: message.mine === reaction ? null : reaction }));
  }

  #row(index) {
    const context = this.#context();
    const place = index - Math.max(this.record.head, this.low - 1) - 1;
    if (place >= 0 && this.waiting[place]) {
      const row = describeWaiting(this.waiting[place], context);
      return { ...row, build: () => waitingRow(row, context) };
    }
    const row = describe(index, context);
    return { ...row, build: () => messageRow(row, context) };
  }

  #changed(events) {
    for (const { type, chat, message } of events) {
      if (type === 'status' && this.model.status.state === 'online') this.#members(); // watermarks may have moved unseen
      if (chat !== this.chat) continue;
      if (type === 'members') this.#members();
      if (type === 'message' && message.sender !== this.model.me && message.seq > (this.announced ?? this.record?.head - 1)) {
        this.announced = message.seq;
        if (!document.hidden) announce(`${this.names.user(message.sender)}: ${excerpt(textOf(message.body))}`);
        if (document.hidden && !this.unreadFrom) this.unreadFrom = message.seq;
      }
    }
    this.draw();
  }

  #draw() {
    if (this.closed || !this.record) return;
    this.#drawHead();
    this.#typing();
    if (this.incomplete && this.model.status.state === 'online') {
      this.incomplete = false;
      this.#members();
    }
    const before = this.waiting?.length ?? 0;
    this.#span();
    if (!this.ready) return;
    if (this.waiting.length > before) {
      this.unreadFrom = null; // who answers has seen them
      this.list.stuck = true;
    }
    this.list.render();
  }

  #shown(first, last) {
    if (last === -Infinity || !this.record) {
      this.#drawNewest();
      return;
    }
    this.last = last;
    this.timeline.need(first - 30, last + 30);
    if (first - this.low < 200 && this.low > this.record.first) this.low = Math.max(this.record.first, this.low - MORE);
    this.#read();
    this.#drawNewest();
  }

  /** Only what is really in view of a visible tab counts as read. */
  #read() {
    const { record, last } = this;
    if (document.hidden || !record || !this.ready || !this.element.isConnected) return;
    const seq = Math.min(last, record.head);
    if (seq > record.read && this.timeline.message(seq) && seq > (this.said ?? 0)) {
      this.said = seq;
      this.engine.ask('read', this.chat, seq).catch(() => { this.said = 0; });
    }
  }

  #drawNewest() {
    const { record } = this;
    const below = record ? record.head - Math.max(Math.min(this.last, record.head), record.read) : 0;
    this.newest.hidden = this.list.atBottom;
    const text = below > 0 ? count(below) : '';
    if (this.newest.dataset.count === text && this.newest.firstChild) return;
    this.newest.dataset.count = text;
    this.newest.setAttribute('aria-label', below > 0 ? t('to_newest_n', { n: below }) : t('to_newest'));
    replace(this.newest, icon('down'), text && h('span.badge', {}, text));
  }

  #typing() {
    const users = [...(this.model.typists.get(this.chat)?.keys() ?? [])].slice(0, 3);
    const text = users.length ? t('typing', { who: users.map((user) => this.names.user(user)).join(', ') }) : '';
    if (this.typing.textContent !== text) this.typing.textContent = text;
  }

  // -- moving

  toNewest() {
    this.list.toBottom();
    this.scroller.focus({ preventScroll: true });
  }

  /** Bring message `seq` into view and let it light up. */
  async jump(seq) {
    if (!this.ready) {
      this.target = seq;
      return;
    }
    this.target = null;
    const { record } = this;
    if (!record || seq < record.first || seq > record.head) return;
    if (seq < this.low) this.low = Math.max(record.first, seq - 1000);
    await this.timeline.need(seq - 40, seq + 40);
    if (this.closed) return;
    this.#span();
    this.flash = seq;
    this.list.toRow(seq);
    this.list.node(seq)?.focus({ preventScroll: true });
    clearTimeout(this.flashTimer);
    this.flashTimer = setTimeout(() => { this.flash = null; this.draw(); }, 2000);
  }

  /** Arrow keys walk from message to message, Enter opens the menu of one. */
  #key(event) {
    if (event.target.closest('button, a')) return;
    const row = event.target.closest('.row');
    if (event.key === 'Enter' && row?.dataset.seq) {
      const box = row.getBoundingClientRect();
      this.#menu(Number(row.dataset.seq), { x: box.left + 60, y: box.bottom });
    } else if (event.key === 'ArrowUp' || event.key === 'ArrowDown') {
      const rows = [...this.rows.children];
      const next = row ? rows[rows.indexOf(row) + (event.key === 'ArrowUp' ? -1 : 1)] : this.list.node(this.last) ?? rows.at(-1);
      next?.focus();
    } else if (event.key === 'End') this.toNewest();
    else return;
    event.preventDefault();
  }
}
