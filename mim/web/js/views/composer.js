/* Where people write: drafts, replies, edits, mentions, and the bound on length. */

import { t } from '../i18n/index.js';
import { bdi, h, icon, iconButton, replace } from './dom.js';
import { attempt, complain } from './notice.js';
import { excerpt, kindLabel, mentionsOf, textOf } from './text.js';

const TYPING_MS = 3000;
const DRAFT_MS = 400;
const TALLEST = 160;

export class Composer {
  constructor(room) {
    this.room = room;
    this.engine = room.engine;
    this.mentions = new Map(); // "@name" → user
    this.replying = null;
    this.editing = null;
    this.typed = 0;
    this.build();
    this.known = room.model.drafts.get(room.chat) ?? ''; // the draft as all tabs know it
    if (this.known) this.#set(this.known);
    this.off = room.model.on('draft', ({ chat, text }) => {
      if (chat !== room.chat) return;
      if (this.field.value === this.known && !this.editing) this.#set(text); // written in another tab, not here
      this.known = text;
    });
  }

  build() {
    this.above = h('div.composer-above', { hidden: true });
    this.field = h('textarea.composer-field', {
      rows: 1, dir: 'auto', 'aria-label': t('write'), placeholder: t('write'), autocomplete: 'off', enterkeyhint: 'send',
      oninput: () => this.#input(), onkeydown: (event) => this.#key(event), onblur: () => this.completion?.close(),
      onclick: () => this.#complete(),
    });
    this.counter = h('span.counter', { hidden: true, role: 'status' });
    this.button = iconButton('send', t('send'), () => this.submit(), { class: 'icon-button send', type: 'submit' });
    this.element = h('form.composer', { onsubmit: (event) => event.preventDefault() },
      this.above, h('div.composer-row', {}, this.field, this.counter, this.button));
    this.#state();
  }

  close() {
    this.off();
    clearTimeout(this.timer);
    if (!this.editing) this.engine.draft(this.room.chat, this.field.value);
  }

  focus() {
    this.field.focus();
  }

  #set(text) {
    this.field.value = text;
    this.#fit();
    this.#state();
  }

  #fit() {
    this.field.style.height = 'auto';
    this.field.style.height = `${Math.min(TALLEST, this.field.scrollHeight)}px`;
  }

  get #over() {
    const { value } = this.field;
    const { text } = this.room.model.limits;
    return value.length > text ? [...value].length - text : 0;
  }

  #state() {
    const over = this.#over;
    this.counter.hidden = over <= 0;
    this.counter.textContent = over > 0 ? t('too_long', { n: over }) : '';
    this.button.disabled = over > 0 || !this.field.value.trim();
  }

  #input() {
    this.#fit();
    this.#state();
    this.#complete();
    const { chat } = this.room;
    if (this.editing) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.engine.draft(chat, this.field.value), DRAFT_MS);
    if (this.field.value.trim() && Date.now() - this.typed > TYPING_MS) {
      this.typed = Date.now();
      this.engine.ask('typing', chat).catch(() => {});
    }
  }

  #key(event) {
    if (event.isComposing || event.keyCode === 229) return; // a Hangul syllable is being put together
    if (this.completion?.key(event)) return;
    if (event.key === 'Enter' && !event.shiftKey && !matchMedia('(pointer: coarse)').matches) {
      event.preventDefault();
      this.submit();
    } else if (event.key === 'Escape' && (this.replying || this.editing)) {
      event.preventDefault();
      this.cancel();
    } else if (event.key === 'ArrowUp' && !this.field.value) {
      const last = this.#lastOwn();
      if (last) {
        event.preventDefault();
        this.edit(last);
      }
    }
  }

  #lastOwn() {
    const { timeline, record, model } = this.room;
    for (let seq = record.head; seq > record.head - 50; seq--) {
      const message = timeline.message(seq);
      if (message?.sender === model.me && !message.deleted && textOf(message.body)) return message;
    }
    return null;
  }

  /** Complete "@" to a member, with a part that is loaded when the first one is typed. */
  async #complete() {
    const { record } = this.room;
    if (record?.kind !== 'group' || (!this.completion && !this.field.value.includes('@'))) return;
    const { Completion } = await import('./mentions.js');
    this.completion ??= new Completion(this);
    this.completion.look();
  }

  /** Put text in the place of what stands between two offsets, the cursor behind it. */
  insert(from, to, text) {
    const { value } = this.field;
    this.#set(value.slice(0, from) + text + value.slice(to));
    this.field.selectionStart = this.field.selectionEnd = from + text.length;
    this.focus();
  }

  // -- replies and edits

  reply(message) {
    this.cancel();
    this.replying = message;
    this.#show('reply', t('reply_to', { who: this.room.names.user(message.sender) }), message);
  }

  edit(message) {
    this.cancel();
    this.editing = message;
    this.kept = this.field.value;
    for (const [offset, length, user] of mentionsOf(message.body)) {
      this.mentions.set(textOf(message.body).slice(offset, offset + length), user);
    }
    this.#set(textOf(message.body));
    this.#show('edit', t('editing'), message);
  }

  #show(name, title, message) {
    this.above.hidden = false;
    replace(this.above, icon(name), h('div', {}, h('strong', {}, bdi(title)),
      h('span', { dir: 'auto' }, excerpt(textOf(message.body)) || kindLabel(message.body))),
    iconButton('close', t('cancel'), () => this.cancel()));
    this.focus();
  }

  cancel() {
    if (this.editing) this.#set(this.kept ?? '');
    this.replying = this.editing = null;
    this.above.hidden = true;
    replace(this.above);
  }

  // -- sending

  /** The text as a body: a plain text, or a map when it replies or mentions (proto/messages.md#body). */
  async #body(text, base = {}) {
    const mentions = this.mentions.size ? (await import('./mentions.js')).find(text, this.mentions) : [];
    const { m: _, ...rest } = base;
    const body = { ...rest, t: text, ...(mentions.length && { m: mentions }) };
    return Object.keys(body).length === 1 ? text : body;
  }

  async submit() {
    const text = this.field.value.replace(/\0/g, '').trim();
    if (!text || this.#over > 0) return;
    const { room, editing, replying } = this;
    if (editing) {
      const base = typeof editing.body === 'object' ? editing.body : {};
      this.cancel();
      if (text !== textOf(editing.body)) {
        await attempt(this.engine.call('message.edit', { chat: room.chat, seq: editing.seq, body: await this.#body(text, base) }));
      }
      return;
    }
    const body = this.#body(text, replying ? { re: replying.seq } : {});
    clearTimeout(this.timer);
    this.#set('');
    this.cancel();
    this.typed = 0;
    try {
      await this.engine.send(room.chat, await body);
      this.engine.draft(room.chat, this.field.value);
    } catch (error) {
      if (!this.field.value) this.#set(text);
      complain(error.code === 'full' ? error : { code: 'storage' });
    }
  }
}
