/* One account in this window: the list of chats, the open room, and how the connection is. */

import { t } from '../i18n/index.js';
import { remember } from '../store/accounts.js';
import { news, update } from '../worker.js';
import { ChatList } from './chat-list.js';
import { eachFrame, h, icon, replace } from './dom.js';
import { Names } from './names.js';
import { complain, toast } from './notice.js';
import { Room } from './room.js';
import { statusBar } from './status.js';
import { style } from './style.js';

await Promise.all([style('/css/chats.css'), style('/css/room.css')]);

export class Account {
  constructor(app, engine) {
    Object.assign(this, { app, engine, user: engine.user, names: new Names(engine), room: null, parts: new Set(), greeted: false, leaving: false });
    this.#frame();
    const { model } = engine;
    model.on('status', () => this.#status());
    model.on('changed', eachFrame(() => this.#title()));
    model.on('trouble', complain);
    model.on('gone', ({ chat }) => this.#gone(chat));
    model.on('chat', ({ chat }) => { if (this.wanted?.chat === chat) this.show(chat, this.wanted.seq); });
    model.on('user', ({ user: { user, name } }) => { if (user === this.user) remember(user, { name }); });
    this.newer = () => { this.waiting = true; this.#status(); };
    news.addEventListener('waiting', this.newer);
    this.#status();
    this.#title();
    engine.ask('learn', [this.user]).catch(() => {});
  }

  close() {
    news.removeEventListener('waiting', this.newer);
    this.room?.close();
    this.list.close();
    this.engine.close();
    this.closed = true;
  }

  #frame() {
    this.bar = h('div.status', { role: 'status' });
    this.list = new ChatList(this);
    this.pane = h('main.pane', {}, this.#blank());
    this.frame = h('div.frame', {}, this.bar, h('div.panes', {}, this.list.element, this.pane));
    replace(this.app.root, this.frame);
  }

  #blank() {
    return h('div.blank', {}, icon('smile'), h('p', {}, t('choose_chat')));
  }

  // -- moving

  /** Go to a chat, at a message, or back to the list with null. */
  go(chat, seq) {
    const next = `#/${this.user}${chat ? `/${chat}${seq ? `/${seq}` : ''}` : ''}`;
    if (location.hash === next) this.show(chat, seq);
    else location.hash = next;
  }

  show(chat, seq) {
    const { model } = this.engine;
    this.wanted = null;
    if (!chat || !model.chats.has(chat)) {
      if (chat) this.wanted = { chat, seq }; // it may come with the sync
      this.#showList();
      return;
    }
    if (this.room?.chat !== chat) {
      this.room?.close();
      this.room = new Room(this, chat);
      replace(this.pane, this.room.element);
      if (!seq && matchMedia('(pointer: fine)').matches) this.room.composer.focus();
    }
    this.frame.classList.add('in-room');
    this.list.current(chat);
    if (!seq) return;
    this.room.jump(seq);
    history.replaceState(null, '', `#/${this.user}/${chat}`);
  }

  #showList() {
    const had = this.room?.chat;
    this.room?.close();
    this.room = null;
    replace(this.pane, this.#blank());
    this.frame.classList.remove('in-room');
    this.list.current(null);
    if (had) this.list.focus(had);
  }

  #gone(chat) {
    if (this.room?.chat !== chat) return;
    this.go(null);
    toast(t('left_chat'));
  }

  /** Parts that are seldom needed are loaded when they are. */
  async open(part, subject) {
    const parts = {
      about: () => import('./about.js').then(({ about }) => about(this, subject)),
      search: () => import('./search.js').then(({ search }) => search(this, subject)),
      settings: () => import('./settings.js').then(({ settings }) => settings(this)),
      profile: () => import('./settings.js').then(({ profile }) => profile(this, { welcome: true })),
      people: () => import('./people.js').then(({ newChat }) => newChat(this)),
      group: () => import('./people.js').then(({ newGroup }) => newGroup(this)),
    };
    if (this.parts.has(part)) return; // asked for twice while it was loading
    this.parts.add(part);
    try {
      await parts[part]();
    } catch (error) {
      complain(error);
    }
    this.parts.delete(part);
  }

  // -- how it is

  async #status() {
    if (this.closed || this.leaving) return;
    const { status, session } = this.engine.model;
    statusBar(this.bar, status, { newer: this.waiting, update, wake: () => this.engine.ask('wake').catch(() => {}) });
    if (status.state === 'online') {
      this.names.asked.clear(); // people may have new names
      this.#greet();
    }
    const ended = !['online', 'offline', 'connecting'].includes(status.state);
    const shown = document.querySelector('dialog.face');
    if (!ended) {
      shown?.remove();
      return;
    }
    const { face } = await import('./face.js');
    face(status, {
      here: () => this.engine.ask('start').catch(() => {}),
      signIn: () => this.app.signIn(session.phone),
      update,
    });
    if (status.state === 'signed_out') await this.app.forget(this.user, session.phone);
  }

  /** A new account has no name yet: ask for one first. */
  async #greet() {
    if (this.greeted) return;
    this.greeted = true;
    const profile = await this.engine.call('profile.get').catch(() => null);
    if (profile && !profile.name && !this.closed) this.open('profile');
  }

  #title() {
    if (this.closed) return;
    const total = this.engine.model.totalUnread();
    document.title = total ? `(${total > 999 ? '999+' : total}) mim` : 'mim';
    const picture = total ? '/icons/icon-unread.svg' : '/icons/icon.svg';
    const link = document.getElementById('favicon');
    if (!link.href.endsWith(picture)) link.href = picture;
    navigator.setAppBadge?.(total).catch(() => {});
  }
}
