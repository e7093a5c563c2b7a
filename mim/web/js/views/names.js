/* What people and chats are called. Names that are not known yet are asked for. */

import { t } from '../i18n/index.js';
import { avatar, hueOf } from './format.js';

export class Names {
  constructor(engine) {
    this.engine = engine;
    this.wanted = new Set();
    this.asked = new Set();
  }

  get model() {
    return this.engine.model;
  }

  user(id) {
    const user = this.model.users.get(id);
    if (!this.asked.has(id)) this.#want(id);
    return user?.name || (user ? t('unnamed') : '…');
  }

  hue(id) {
    return hueOf(this.model.users.get(id), id);
  }

  avatar(id, spec) {
    return avatar(this.user(id), this.hue(id), spec);
  }

  chat(record) {
    if (record.kind === 'direct') return this.user(record.peer);
    return record.title || t('group_untitled', { n: record.count });
  }

  chatAvatar(record, spec) {
    if (record.kind === 'direct') return this.avatar(record.peer, spec);
    return avatar(record.title || t('group_short'), hueOf(null, record.chat + 3), `${spec ?? 'span.avatar'}.avatar-group`);
  }

  #want(id) {
    if (!id) return;
    this.asked.add(id);
    if (!this.wanted.size) {
      setTimeout(() => {
        const users = [...this.wanted];
        this.wanted.clear();
        this.engine.ask('learn', users).catch(() => users.forEach((user) => this.asked.delete(user)));
      }, 20);
    }
    this.wanted.add(id);
  }
}
