/* The window: signing in, or the chats and a room of one account. The address says which: #/42/5 is chat 5 of user 42. */

import { Engine } from '../connection/engine.js';
import { t } from '../i18n/index.js';
import { accounts, forget, remember } from '../store/accounts.js';
import { news, update } from '../worker.js';
import { ChatList } from './chat-list.js';
import { eachFrame, h, icon, replace } from './dom.js';
import { Names } from './names.js';
import { sentence, toast } from './overlays.js';
import { Room } from './room.js';
import { signIn } from './signin.js';
import { face, statusBar } from './status.js';

const ACCOUNT = 'mim.account';

export class App {
  constructor(root) {
    this.root = root;
    this.engine = null;
    this.room = null;
  }

  async start() {
    addEventListener('hashchange', () => this.#route());
    news.addEventListener('waiting', () => { this.newer = true; this.#status(); });
    await this.#route();
  }

  #address() {
    const [, user, chat, seq] = location.hash.split('/').map((part) => (/^\d{1,15}$/.test(part) ? Number(part) : part));
    return { user, chat, seq };
  }

  async #route() {
    const address = this.#address();
    if (address.user === 'sign-in') {
      if (!document.querySelector('dialog.face')) this.#signIn();
      return;
    }
    const known = accounts().map(({ user }) => user);
    const kept = Number(sessionStorage.getItem(ACCOUNT));
    const user = [address.user, kept, known[0]].find((one) => known.includes(one));
    if (!user) this.#signIn();
    else if (this.engine?.user !== user) await this.#enter(user);
    else this.#show(address.chat, address.seq);
  }

  // -- signing in and out

  #signIn(phone) {
    this.#leave();
    signIn(this.root, {
      phone,
      done: (user) => {
        location.hash = `#/${user}`;
        this.#route();
      },
      cancel: accounts().length ? () => { location.hash = ''; } : null,
    });
  }

  #leave() {
    this.room?.close();
    this.room = null;
    this.list?.close();
    this.list = null;
    this.engine?.close();
    this.engine = null;
  }

  async #enter(user) {
    this.#leave();
    this.greeted = false;
    try {
      this.engine = await Engine.open(user);
    } catch (error) {
      if (error.code === 'signed_out') {
        await forget(user);
        this.#signIn();
      } else replace(this.root, h('main.face', {}, h('h1', {}, t('no_storage')), h('p', {}, t('no_storage_text'))));
      return;
    }
    sessionStorage.setItem(ACCOUNT, user);
    remember(user);
    this.names = new Names(this.engine);
    this.#frame();
    const { model } = this.engine;
    model.on('status', () => {
      this.#status();
      if (model.status.state === 'online' && !this.greeted) this.#greetNew();
    });
    model.on('changed', eachFrame(() => this.#title()));
    model.on('trouble', ({ code }) => toast(sentence({ code })));
    model.on('gone', ({ chat }) => { if (this.room?.chat === chat) { this.go(null); toast(t('left_chat')); } });
    model.on('chat', ({ chat }) => { if (this.wanted?.chat === chat) this.#show(chat, this.wanted.seq); });
    model.on('user', ({ user: { user: id, name } }) => { if (id === user) remember(user, { name }); });
    this.#status();
    this.#title();
    const { chat, seq } = this.#address();
    this.#show(chat, seq);
    this.engine.ask('learn', [user]).catch(() => {});
    if (model.status.state === 'online') this.#greetNew();
  }

  /** A new account has no name yet: ask for one first. */
  async #greetNew() {
    const { engine } = this;
    this.greeted = true;
    const profile = await engine.call('profile.get').catch(() => null);
    if (profile && !profile.name && this.engine === engine) this.open('profile');
  }

  /** Sign out here: the server revokes the device, and nothing of the account stays in this browser. */
  async signOut() {
    const { engine } = this;
    const { user, model } = engine;
    const { device, phone } = model.session;
    this.leaving = true; // the end of the session is no news
    const told = await engine.call('device.revoke', { device }).then(() => true, () => model.status.state === 'signed_out');
    engine.tell([{ type: 'status', status: { state: 'signed_out' } }]);
    this.#leave();
    await forget(user);
    this.leaving = false;
    location.hash = '';
    this.#signIn(phone);
    if (!told) toast(t('sign_out_untold'));
  }

  /** Signed out from elsewhere: nothing of the account stays here. */
  async #wipe() {
    const { user } = this.engine;
    this.#leave();
    replace(this.root);
    await forget(user);
    location.hash = '#/sign-in';
  }

  // -- the frame

  #frame() {
    this.bar = h('div.status', { role: 'status' });
    this.list = new ChatList(this);
    this.pane = h('main.pane', {}, this.#blank());
    this.frame = h('div.frame', {}, this.bar, h('div.panes', {}, this.list.element, this.pane));
    replace(this.root, this.frame);
  }

  #blank() {
    return h('div.blank', {}, icon('smile'), h('p', {}, t('choose_chat')));
  }

  /** Go to a chat, or back to the list with null. */
  go(chat, seq) {
    const next = `#/${this.engine.user}${chat ? `/${chat}${seq ? `/${seq}` : ''}` : ''}`;
    if (location.hash === next) this.#show(chat, seq);
    else location.hash = next;
  }

  #show(chat, seq) {
    const { model } = this.engine;
    this.wanted = null;
    if (!chat || !model.chats.has(chat)) {
      if (chat) this.wanted = { chat, seq }; // it may come with the sync
      const had = this.room?.chat;
      this.room?.close();
      this.room = null;
      replace(this.pane, this.#blank());
      this.frame.classList.remove('in-room');
      this.list.current(null);
      if (had) this.list.focus(had);
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
    if (seq) {
      this.room.jump(seq);
      history.replaceState(null, '', `#/${this.engine.user}/${chat}`);
    }
  }

  /** Parts that are seldom needed are loaded when they are. */
  async open(part, subject) {
    const parts = {
      group: () => import('./about.js').then(({ about }) => about(this, subject)),
      search: () => import('./search.js').then(({ search }) => search(this, subject)),
      settings: () => import('./settings.js').then(({ settings }) => settings(this)),
      profile: () => import('./settings.js').then(({ profile }) => profile(this, { welcome: true })),
      people: () => import('./people.js').then(({ newChat }) => newChat(this)),
      group_new: () => import('./people.js').then(({ newGroup }) => newGroup(this)),
    };
    try {
      await parts[part]();
    } catch (error) {
      toast(sentence(error));
    }
  }

  #status() {
    if (!this.engine || this.leaving) return;
    const { status, session } = this.engine.model;
    statusBar(this.bar, status, { newer: this.newer, update, wake: () => this.engine.ask('wake').catch(() => {}) });
    face(this, status, {
      here: () => this.engine.ask('start').catch(() => {}),
      signIn: () => this.#signIn(session.phone),
      update,
      gone: () => this.#signIn(session.phone),
    });
    if (status.state === 'signed_out') this.#wipe();
  }

  #title() {
    if (!this.engine) return;
    const total = this.engine.model.totalUnread();
    document.title = total ? `(${total > 999 ? '999+' : total}) mim` : 'mim';
    const picture = total ? '/icons/icon-unread.svg' : '/icons/icon.svg';
    const link = document.getElementById('favicon');
    if (!link.href.endsWith(picture)) link.href = picture;
    navigator.setAppBadge?.(total).catch(() => {});
  }
}
