/* What a chat is: its people and their roles, title and notice, and what this user wants of it. */

import { t } from '../i18n/index.js';
import { bdi, h, icon, iconButton, replace } from './dom.js';
import { attempt } from './notice.js';
import { confirm, dialog, menu, prompt } from './overlays.js';
import { choosePeople } from './people.js';

const PAGE = 500;
const MOST = 3000;

export async function about(app, room) {
  const { chat, engine, names, model } = room;
  const call = (method, params) => attempt(engine.call(method, { chat, ...params }));
  const off = [];
  await dialog(names.chat(room.record), (close) => {
    const body = h('div.sheet-body.plain', {});
    const draw = () => {
      const record = model.chats.get(chat);
      if (!record) close();
      else replace(body, record.kind === 'group' ? group(record) : person(record), own(record));
    };

    const own = (record) => h('section.block', {},
      toggle('bell', t('mute'), record.muted, () => call('chat.settings', { muted: !record.muted })),
      toggle('pin', t('pin'), record.pinned, () => call('chat.settings', { pinned: !record.pinned })),
      h('button.entry.danger-text', { type: 'button', onclick: async () => {
        if (!await confirm(t('leave'), t(record.kind === 'group' ? 'leave_sure' : 'leave_direct_sure'), t('leave'))) return;
        if (await call('chat.leave')) close();
      } }, icon('leave'), t('leave')));

    const person = (record) => h('section.profile', {}, names.avatar(record.peer, 'span.avatar.avatar-large'),
      bdi(names.user(record.peer), 'strong'), h('p.faint', { dir: 'auto' }, model.users.get(record.peer)?.status ?? ''));

    const group = (record) => {
      const leads = record.role !== 'member';
      const change = async (key, max) => {
        const value = await prompt(t(`change_${key}`), { value: record[key] ?? '', max, multiline: key === 'notice' });
        if (value !== undefined) await call('chat.update', { [key]: value || null });
      };
      return [
        h('section.profile', {}, names.chatAvatar(record, 'span.avatar.avatar-large'), bdi(names.chat(record), 'strong'),
          leads && h('div.actions', {},
            h('button', { type: 'button', onclick: () => change('title', 100) }, t('change_title')),
            h('button', { type: 'button', onclick: () => change('notice', 1000) }, t('change_notice')))),
        record.notice && h('section.block', {}, h('h3', {}, t('notice')), h('p.text', { dir: 'auto' }, record.notice)),
        h('section.block', {}, h('h3', {}, t('members', { n: record.count })),
          h('button.entry', { type: 'button', onclick: invite }, icon('add'), t('invite')), list),
      ];
    };

    const list = h('ul.entries', { 'data-test': 'members' });
    const members = async () => {
      room.members = await everyone(engine, chat) ?? room.members;
      const rank = { owner: 0, manager: 1, member: 2 };
      const sorted = [...room.members ?? []].sort((one, other) => rank[one.role] - rank[other.role] || one.name.localeCompare(other.name));
      replace(list, sorted.map((member) => h('li', {}, names.avatar(member.user),
        h('span.entry-main', {}, h('span', {}, bdi(member.name || t('unnamed')), member.user === model.me && h('span.faint', {}, ` (${t('you')})`))),
        member.role !== 'member' && h('span.role', {}, t(`role_${member.role}`)),
        actionsOf(member).length > 0 && iconButton('more', t('about', { name: member.name }), ({ currentTarget }) => {
          const box = currentTarget.getBoundingClientRect();
          menu(actionsOf(member), { x: box.left, y: box.bottom, label: member.name });
        }))));
    };

    const actionsOf = ({ user, name, role }) => {
      const mine = model.chats.get(chat)?.role;
      if (user === model.me) return [];
      const roleTo = (next, sure) => async () => {
        if (!sure || await confirm(t('hand_over'), t('hand_over_sure', { who: name }), t('hand_over'))) await call('chat.role', { user, role: next });
      };
      return [
        { label: t('write_to'), icon: 'reply', act: () => attempt(engine.call('chat.create', { kind: 'direct', members: [user] }).then(({ chat: made }) => {
          close();
          app.go(made);
        })) },
        mine === 'owner' && (role === 'manager'
          ? { label: t('make_member'), icon: 'people', act: roleTo('member') }
          : { label: t('make_manager'), icon: 'crown', act: roleTo('manager') }),
        mine === 'owner' && { label: t('hand_over'), icon: 'crown', act: roleTo('owner', true) },
        (mine === 'owner' || (mine === 'manager' && role === 'member')) && { label: t('kick'), icon: 'leave', danger: true, act: async () => {
          if (await confirm(t('kick'), t('kick_sure', { who: name }), t('kick'))) await call('chat.kick', { users: [user] });
        } },
      ].filter(Boolean);
    };

    const invite = async () => {
      const present = new Set((room.members ?? []).map(({ user }) => user));
      const choice = await choosePeople(app, { title: t('invite'), action: t('invite'), without: present });
      if (choice) await call('chat.invite', { users: choice.users });
    };

    off.push(model.on('chat', (event) => event.chat === chat && (draw(), members())),
      model.on('gone', (event) => event.chat === chat && close()),
      model.on('members', (event) => event.chat === chat && members()));
    draw();
    if (room.record.kind === 'group') members();
    return body;
  });
  off.forEach((stop) => stop());
}

async function everyone(engine, chat) {
  const found = [];
  try {
    for (let after = 0; found.length < MOST; after = found.at(-1).user) {
      const page = await engine.call('chat.members', { chat, after, limit: PAGE });
      found.push(...page);
      if (page.length < PAGE) break;
    }
    return found;
  } catch {
    return null; // offline: what was known stays
  }
}

const toggle = (name, text, on, onclick) => h('button.entry', { type: 'button', role: 'switch', 'aria-checked': String(on), onclick },
  icon(name), h('span.entry-main', {}, text), h(on ? 'span.switch.switch-on' : 'span.switch', { 'aria-hidden': 'true' }));
