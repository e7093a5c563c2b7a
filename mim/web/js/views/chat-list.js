/* The chats of the account, the newest first, pinned ones above. */

import { t } from '../i18n/index.js';
import { bdi, eachFrame, h, icon, iconButton, replace } from './dom.js';
import { count, fullTime, when } from './format.js';
import { onMenu } from './press.js';
import { excerpt, kindLabel } from './text.js';

const AT_ONCE = 60; // rows that come with each look further down

export class ChatList {
  constructor(app) {
    this.app = app;
    this.model = app.engine.model;
    this.rows = new Map(); // chat → {sign, element}
    this.limit = AT_ONCE;
    this.selected = null;
    this.draw = eachFrame(() => this.#draw());
    this.element = this.#build();
    this.off = ['changed', 'reset', 'typing'].map((type) => this.model.on(type, this.draw));
    this.minute = setInterval(this.draw, 60000); // times grow old
    this.#draw();
  }

  close() {
    this.off.forEach((off) => off());
    clearInterval(this.minute);
    this.element.remove();
  }

  #build() {
    this.self = h('button.self', { type: 'button', 'aria-label': t('settings'), title: t('settings'), onclick: () => this.app.open('settings') });
    this.items = h('ul.chats', { role: 'list' });
    this.more = h('button.more-chats', { type: 'button', hidden: true, onclick: () => { this.limit += AT_ONCE; this.#draw(); } }, t('show_more'));
    this.nothing = h('div.empty-list', { hidden: true },
      icon('people'), h('h2', {}, t('no_chats')), h('p', {}, t('no_chats_text')),
      h('button.primary', { type: 'button', onclick: () => this.app.open('people') }, t('new_chat')));
    onMenu(this.items, (target) => target.closest('.chat-row'), (row, x, y) => this.#menu(Number(row.dataset.chat), { x, y }));
    const add = iconButton('add', t('new'), async ({ currentTarget }) => {
      const { left: x, bottom: y } = currentTarget.getBoundingClientRect();
      (await import('./chat-menu.js')).newMenu(this.app, { x, y });
    });
    return h('nav.list', { 'aria-label': t('chats') },
      h('header.list-head', {}, this.self, h('h1', {}, t('chats')),
        iconButton('search', t('search_all'), () => this.app.open('search')), add),
      h('div.list-scroll', { onkeydown: (event) => this.#key(event), onscroll: ({ target }) => this.#further(target) }, this.items, this.more, this.nothing));
  }

  #further({ scrollTop, clientHeight, scrollHeight }) {
    if (this.more.hidden || scrollTop + clientHeight < scrollHeight - 300) return;
    this.limit += AT_ONCE;
    this.draw();
  }

  /** Show which chat is open. */
  current(chat) {
    this.selected = chat;
    this.#draw();
  }

  focus(chat) {
    this.rows.get(chat)?.element.focus();
  }

  #draw() {
    const { names } = this.app;
    const { me } = this.model;
    if (!this.element) return;
    const own = `${names.user(me)} ${names.hue(me)}`;
    if (this.own !== own) {
      this.own = own;
      replace(this.self, names.avatar(me));
    }
    const chats = this.model.sorted();
    const shown = chats.slice(0, this.limit);
    const rows = new Map();
    let place = this.items.firstChild;
    for (const record of shown) {
      const row = this.#row(record);
      rows.set(record.chat, row);
      if (row.item === place) {
        place = place.nextSibling;
        continue;
      }
      const focused = row.element === document.activeElement;
      this.items.insertBefore(row.item, place);
      if (focused) row.element.focus(); // moving takes the focus away
    }
    for (const [chat, { item }] of this.rows) if (rows.get(chat)?.item !== item) item.remove();
    this.rows = rows;
    this.more.hidden = chats.length <= this.limit;
    this.nothing.hidden = chats.length > 0;
    this.nothing.dataset.known = String(this.model.status.state === 'online');
  }

  #row(record) {
    const view = this.#view(record);
    const sign = JSON.stringify(view);
    const old = this.rows.get(record.chat);
    if (old?.sign === sign) return old;
    const element = h('button.chat-row', {
      type: 'button', 'data-chat': record.chat, 'aria-current': view.selected ? 'true' : null, onclick: () => this.app.go(record.chat) },
    this.app.names.chatAvatar(record),
    h('span.chat-main', {},
      h('span.chat-top', {}, h('span.chat-name', {}, bdi(view.name)),
        record.kind === 'group' && h('span.chat-count', { 'aria-label': t('members', { n: record.count }) }, count(record.count)),
        view.pinned && h('span.mark', { title: t('pinned') }, icon('pin'), h('span.visually-hidden', {}, t('pinned'))),
        view.muted && h('span.mark', { title: t('muted') }, icon('mute'), h('span.visually-hidden', {}, t('muted')))),
      h('span.chat-last', { dir: 'auto' }, view.draft !== null && h('span.draft', {}, t('draft')), view.text)),
    h('span.chat-side', {},
      view.at && h('time', { title: fullTime(record.last?.at ?? record.seenAt) }, view.at),
      view.unread > 0 && h(view.muted ? 'span.badge.badge-muted' : 'span.badge', { 'aria-label': t('unread', { n: view.unread }) }, count(view.unread))));
    if (!old) return { sign, element, item: h('li', {}, element) };
    const focused = old.element === document.activeElement;
    replace(old.item, element);
    if (focused) element.focus();
    return { sign, element, item: old.item };
  }

  #view(record) {
    const { names } = this.app;
    const { last } = record;
    const waiting = this.model.waiting(record.chat).at(-1);
    const typists = [...(this.model.typists.get(record.chat)?.keys() ?? [])];
    const draft = this.selected === record.chat ? null : this.model.drafts.get(record.chat) ?? null;
    let text = t('room_empty');
    if (draft !== null) text = excerpt(draft);
    else if (typists.length) text = t('typing', { who: names.user(typists[0]) });
    else if (waiting) text = excerpt(typeof waiting.body === 'string' ? waiting.body : waiting.body.t);
    else if (last) {
      text = last.deleted ? t('deleted') : excerpt(last.text) || kindLabel(last);
      if (record.kind === 'group' && last.sender && last.sender !== this.model.me) text = `${names.user(last.sender)}: ${text}`;
    }
    return {
      name: names.chat(record), hue: names.hue(record.peer ?? 0), text, draft, at: last ? when(last.at) : '', unread: this.model.unread(record),
      muted: record.muted, pinned: record.pinned, count: record.count, selected: this.selected === record.chat,
    };
  }

  async #menu(chat, place) {
    const record = this.model.chats.get(chat);
    if (record) (await import('./chat-menu.js')).chatMenu(this.app, record, place);
  }

  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.closest('.chat-row')) return;
    event.preventDefault();
    const rows = [...this.items.querySelectorAll('.chat-row')];
    rows[rows.indexOf(event.target.closest('.chat-row')) + step]?.focus();
  }
}
