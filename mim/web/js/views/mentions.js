/* Completing "@" to the name of a member. */

import { more, t } from '../i18n/index.js';
import { bdi, h, replace } from './dom.js';
import { style } from './style.js';

await Promise.all([style('/css/overlays.css'), more()]);

const CHOICES = 6;
const MOST = 100;
const CLOSE_MS = 150; // a click on a choice takes the focus first

/** The mentions in a text, by the names that were completed: [offset, length, user], in order. */
export function find(text, names) {
  const found = [];
  const longest = [...names].sort(([one], [other]) => other.length - one.length); // @Jun is no part of @June
  for (const [name, user] of longest) {
    for (let at = text.indexOf(name); at >= 0 && found.length < MOST; at = text.indexOf(name, at + name.length)) {
      if (found.every(([offset, length]) => at + name.length <= offset || at >= offset + length)) found.push([at, name.length, user]);
    }
  }
  return found.sort((one, other) => one[0] - other[0]);
}

export class Completion {
  /** `composer`: its `field`, `room`, `mentions` (name → user) and `insert(from, to, text)`. */
  constructor(composer) {
    this.composer = composer;
    this.people = [];
    this.list = h('ul.choices', { role: 'listbox', hidden: true, 'aria-label': t('mention') });
    composer.element.prepend(this.list);
  }

  /** See whether a name is being typed. */
  look() {
    const { field, room } = this.composer;
    const before = field.value.slice(0, field.selectionStart);
    const match = /(?:^|\s)@([^\s@]{0,30})$/u.exec(before);
    const word = match?.[1].toLowerCase();
    this.at = before.length - (word?.length ?? 0) - 1;
    this.people = match ? (room.members ?? []).filter(({ user, name }) => user !== room.model.me && name?.toLowerCase().includes(word)) : [];
    this.people.splice(CHOICES);
    this.chosen = 0;
    this.#draw();
  }

  close() {
    setTimeout(() => {
      this.people = [];
      this.#draw();
    }, CLOSE_MS);
  }

  #draw() {
    const { field, room } = this.composer;
    this.list.hidden = !this.people.length;
    replace(this.list, this.people.map(({ user, name }, index) => h('li.choice', {
      role: 'option', id: `choice-${index}`, 'aria-selected': String(index === this.chosen),
      onpointerdown: (event) => { event.preventDefault(); this.#take(index); } },
    room.names.avatar(user, 'span.avatar.avatar-small'), bdi(name))));
    if (this.people.length) field.setAttribute('aria-activedescendant', `choice-${this.chosen}`);
    else field.removeAttribute('aria-activedescendant');
  }

  /** Whether a key was for the choices. */
  key(event) {
    const { length } = this.people;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!length) return false;
    if (step) this.chosen = (this.chosen + step + length) % length;
    else if (event.key === 'Enter' || event.key === 'Tab') this.#take(this.chosen);
    else if (event.key === 'Escape') this.people = [];
    else return false;
    this.#draw();
    event.preventDefault();
    return true;
  }

  #take(index) {
    const { composer } = this;
    const { user, name } = this.people[index];
    composer.mentions.set(`@${name}`, user);
    composer.insert(this.at, composer.field.selectionStart, `@${name} `);
    this.people = [];
    this.#draw();
  }
}
