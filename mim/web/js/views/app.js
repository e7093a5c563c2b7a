/* The window: signing in, or one account. The address says which: #/42/5 is chat 5 of user 42, #/sign-in is neither. */

import { accounts, forget, remember } from '../store/accounts.js';
import { t } from '../i18n/index.js';
import { h, replace } from './dom.js';
import { toast } from './notice.js';

const ACCOUNT = 'mim.account'; // of this window: several windows may show several accounts

export class App {
  constructor(root) {
    this.root = root;
    this.account = null;
    this.turn = 0;
  }

  async start() {
    addEventListener('hashchange', () => this.#route());
    await this.#route();
  }

  static address() {
    const [, user, chat, seq] = location.hash.split('/').map((part) => (/^\d{1,15}$/.test(part) ? Number(part) : part));
    return { user, chat, seq };
  }

  async #route() {
    const { user: wish, chat, seq } = App.address();
    const known = accounts().map(({ user }) => user);
    const kept = Number(sessionStorage.getItem(ACCOUNT));
    const user = wish === 'sign-in' ? null : [wish, kept, known[0]].find((one) => known.includes(one));
    if (!user) await this.signIn();
    else if (this.account?.user === user) this.account.show(chat, seq);
    else await this.#enter(user);
  }

  /** The page to sign in, with whom this browser knows already. */
  async signIn(phone) {
    const turn = ++this.turn;
    this.#leave();
    const { signIn } = await import('./signin.js');
    if (turn !== this.turn) return;
    signIn(this.root, {
      phone,
      done: (user) => {
        history.replaceState(null, '', `#/${user}`);
        this.#route();
      },
      cancel: accounts().length ? () => { location.hash = ''; } : null,
    });
  }

  #leave() {
    this.account?.close();
    this.account = null;
  }

  async #enter(user) {
    const turn = ++this.turn;
    this.#leave();
    const [{ Account }, { Engine }] = await Promise.all([import('./account.js'), import('../connection/engine.js')]);
    let engine = null;
    try {
      engine = await Engine.open(user);
    } catch (error) {
      if (error.code === 'signed_out') {
        await forget(user);
        await this.signIn();
      } else replace(this.root, h('main.face', {}, h('h1', {}, t('no_storage')), h('p', {}, t('no_storage_text'))));
      return;
    }
    if (turn !== this.turn) { // the person went elsewhere meanwhile
      engine.close();
      return;
    }
    sessionStorage.setItem(ACCOUNT, user);
    remember(user);
    this.account = new Account(this, engine);
    const { chat, seq } = App.address();
    this.account.show(chat, seq);
    if (localStorage.getItem('mim.push') === String(user)) import('./push.js').then(({ renew }) => renew(engine)).catch(() => {});
  }

  /** Everything of this account is to leave this browser; the tokens are worth nothing any more, or are given up. */
  async forget(user, phone, news) {
    this.#leave();
    replace(this.root);
    await forget(user);
    history.replaceState(null, '', '#/sign-in');
    await this.signIn(phone);
    if (news) toast(news);
  }
}
