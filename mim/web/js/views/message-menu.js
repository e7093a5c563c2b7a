/* What can be done with a message. */

import { t } from '../i18n/index.js';
import { h } from './dom.js';
import { attempt, toast } from './notice.js';
import { confirm, dialog, menu } from './overlays.js';
import { textOf } from './text.js';

const REACTIONS = ['👍', '❤️', '😂', '😮', '😢', '🙏'];

export function messageMenu(room, message, place) {
  const { engine, chat, record, composer } = room;
  const mine = message.sender === engine.user;
  const text = textOf(message.body);
  const remove = (scope) => attempt(engine.call('message.delete', { chat, seq: message.seq, scope }));
  menu([
    h('div.reaction-row', { role: 'group', 'aria-label': t('react') }, REACTIONS.map((reaction) => h('button.reaction-choice', {
      type: 'button', role: 'menuitemcheckbox', 'aria-checked': String(message.mine === reaction), 'aria-label': reaction,
      onclick: () => room.react(message, reaction) }, reaction))),
    { label: t('reply'), icon: 'reply', act: () => composer.reply(message) },
    text && { label: t('copy'), icon: 'copy', act: () => copy(text) },
    mine && { label: t('edit'), icon: 'edit', act: () => composer.edit(message) },
    { label: t('delete_me'), icon: 'trash', danger: true, act: async () => {
      if (await confirm(t('delete_me'), t('delete_me_sure'), t('delete'))) await remove('me');
    } },
    (mine || (record.kind === 'group' && record.role !== 'member')) && {
      label: t('delete_everyone'), icon: 'trash', danger: true, act: async () => {
        if (await confirm(t('delete_everyone'), t('delete_everyone_sure'), t('delete'))) await remove('everyone');
      } },
  ], { ...place, label: t('message') });
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast(t('copied'));
  } catch { // no permission, or a page that is not secure: let the person do it
    await dialog(t('copy'), () => h('textarea.field', { rows: 8, readonly: true, value: text, 'aria-label': t('message') }));
  }
}

/** A message that the server refused: why, and what now. */
export async function failedMenu(room, item) {
  const { engine } = room;
  const words = ['not_member', 'too_large', 'bad_frame', 'blocked', 'unknown', 'forbidden'];
  const choice = await dialog(t('failed'), (close) => [
    h('p', {}, t(`error_${words.includes(item.code) ? item.code : 'internal'}`)),
    h('div.actions', {},
      h('button.danger', { type: 'button', onclick: () => close('remove') }, t('delete')),
      h('button.primary', { type: 'button', onclick: () => close('again') }, t('send_again'))),
  ]);
  if (!choice) return;
  await engine.unsend(item.cid);
  if (choice === 'again') await attempt(engine.send(item.chat, item.body));
}
