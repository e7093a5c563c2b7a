/* What can be done with a chat of the list, and what can be begun there. */

import { t } from '../i18n/index.js';
import { attempt } from './notice.js';
import { confirm, menu } from './overlays.js';

export function newMenu(app, place) {
  menu([
    { label: t('new_chat'), icon: 'add', act: () => app.open('people') },
    { label: t('new_group'), icon: 'people', act: () => app.open('group') },
  ], { ...place, label: t('new') });
}

export function chatMenu(app, record, place) {
  const { engine, names } = app;
  const { chat, pinned, muted } = record;
  const call = (method, params) => attempt(engine.call(method, { chat, ...params }));
  menu([
    { label: t(pinned ? 'unpin' : 'pin'), icon: 'pin', act: () => call('chat.settings', { pinned: !pinned }) },
    { label: t(muted ? 'unmute' : 'mute'), icon: muted ? 'bell' : 'mute', act: () => call('chat.settings', { muted: !muted }) },
    engine.model.unread(record) > 0 && { label: t('mark_read'), icon: 'check', act: () => attempt(engine.ask('read', chat, record.head)) },
    { label: t('leave'), icon: 'leave', danger: true, act: async () => {
      if (await confirm(t('leave'), t(record.kind === 'group' ? 'leave_sure' : 'leave_direct_sure'), t('leave'))) await call('chat.leave');
    } },
  ], { ...place, label: names.chat(record) });
}
