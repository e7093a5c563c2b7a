/* Choosing people: a new chat by phone, a new group, an invitation. */

import { t } from '../i18n/index.js';
import { bdi, h, icon, replace } from './dom.js';
import { attempt, sentence, toast } from './notice.js';
import { dialog } from './overlays.js';

/** Those with whom there is a direct chat, by name. */
function known(app, without) {
  return [...app.engine.model.chats.values()]
    .filter(({ kind, peer }) => kind === 'direct' && !without.has(peer))
    .map(({ peer }) => ({ user: peer, name: app.names.user(peer) }))
    .sort((one, other) => one.name.localeCompare(other.name));
}

/** A field that finds somebody by phone and hands over {user, name}. */
function byPhone(app, found) {
  const field = h('input.field', { type: 'tel', maxlength: 64, required: true, placeholder: '010-1234-5678', 'aria-label': t('phone'), autocomplete: 'off', autofocus: true });
  const problem = h('p.problem', { role: 'alert' });
  const form = h('form.block', { onsubmit: async (event) => {
    event.preventDefault();
    problem.textContent = '';
    try {
      const person = await app.engine.call('user.find', { phone: field.value });
      if (person.user === app.engine.user) problem.textContent = t('that_is_you');
      else {
        field.value = '';
        await found(person);
      }
    } catch (error) {
      problem.textContent = error.code === 'not_found' ? t('no_account') : error.code === 'bad_frame' ? t('wrong_phone') : sentence(error);
    }
  } }, h('label', {}, t('phone')), h('div.inline', {}, field, h('button.primary', {}, t('find'))), problem);
  return form;
}

export async function newChat(app) {
  const open = async (close, { user }) => {
    const { chat } = await app.engine.call('chat.create', { kind: 'direct', members: [user] });
    close();
    app.go(chat);
  };
  await dialog(t('new_chat'), (close) => {
    const people = known(app, new Set());
    return [
      byPhone(app, (person) => open(close, person)),
      people.length > 0 && h('section.block', {}, h('h3', {}, t('people_known')), h('ul.entries', {}, people.map((person) => h('li', {},
        h('button.entry', { type: 'button', onclick: () => attempt(open(close, person)) }, app.names.avatar(person.user), bdi(person.name, 'bdi.entry-main')))))),
    ];
  });
}

/** Let the person choose some people. Resolves with their ids, or undefined. */
export function choosePeople(app, { title, action, without = new Set(), extra = null }) {
  const chosen = new Map();
  return dialog(title, (close) => {
    const chips = h('div.chips', {});
    const list = h('ul.entries', {});
    const go = h('button.primary', { type: 'button', disabled: true, onclick: () => close({ users: [...chosen.keys()], extra: extra?.value.trim() }) }, action);
    const toggle = (person) => {
      if (!chosen.delete(person.user)) chosen.set(person.user, person);
      draw();
    };
    const people = known(app, without);
    const draw = () => {
      replace(chips, [...chosen.values()].map((person) => h('button', { type: 'button', 'aria-label': t('remove', { who: person.name }), onclick: () => toggle(person) },
        bdi(person.name || t('unnamed')), icon('close'))));
      replace(list, people.map((person) => h('li', {}, h('button.entry', {
        type: 'button', role: 'checkbox', 'aria-checked': String(chosen.has(person.user)), onclick: (event) => {
          toggle(person);
          list.children[people.indexOf(person)].firstChild.focus();
          event.preventDefault();
        } },
      app.names.avatar(person.user), bdi(person.name, 'bdi.entry-main'), chosen.has(person.user) && icon('check')))));
      go.disabled = chosen.size === 0;
    };
    draw();
    return [
      extra && h('label', {}, t('group_name'), extra),
      chips,
      byPhone(app, (person) => {
        if (without.has(person.user)) toast(t('already_in'));
        else if (!chosen.has(person.user)) toggle(person);
      }),
      people.length > 0 && h('section.block', {}, h('h3', {}, t('people_known')), list),
      h('div.actions', {}, go),
    ];
  });
}

export async function newGroup(app) {
  const title = h('input.field', { maxlength: 100, dir: 'auto', autocomplete: 'off' });
  const choice = await choosePeople(app, { title: t('new_group'), action: t('create'), extra: title });
  if (!choice) return;
  const { chat } = await app.engine.call('chat.create', { kind: 'group', members: choice.users, title: choice.extra || null });
  app.go(chat);
}
