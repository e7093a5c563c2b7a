/* One row of a room: a message with what stands above it (day, "new from here") and below it (who joined, a new title). */

import { t } from '../i18n/index.js';
import { bdi, h, icon, iconButton } from './dom.js';
import { clock, count, day, dayKey, fullTime, minuteKey } from './format.js';
import { bodyText, excerpt, kindLabel, textOf } from './text.js';

/** The quoted message of a reply, or null where none may be shown (proto/messages.md#body). */
export function quoteOf(message, timeline) {
  const seq = message.body?.re;
  if (!Number.isSafeInteger(seq) || seq < (timeline.record?.first ?? 1) || (message.seq && seq >= message.seq)) return null;
  const quoted = timeline.message(seq);
  return quoted?.deleted ? null : { seq, quoted };
}

const joined = (one, other) => one && other && !one.deleted === !other.deleted && one.sender === other.sender
  && one.sender !== 0 && minuteKey(one.at) === minuteKey(other.at) && dayKey(one.at) === dayKey(other.at);

/** What a row shows, gathered before it is built; its `sign` tells whether it must be built anew. */
export function describe(seq, { timeline, model, names, unreadFrom, unfolded, flash }) {
  const message = timeline.message(seq);
  const above = timeline.message(seq - 1);
  const below = timeline.message(seq + 1);
  const first = seq === timeline.record?.first;
  const linesAbove = timeline.lines.get(seq - 1);
  const lines = timeline.lines.get(seq) ?? [];
  const row = {
    key: seq, seq, message, lines, newFrom: seq === unreadFrom, flash: flash === seq, unfolded: unfolded.has(seq),
    linesBefore: first ? linesAbove ?? [] : [],
  };
  if (message) {
    row.newDay = first || (above && dayKey(above.at) !== dayKey(message.at)) || (!above && first);
    row.starts = row.newDay || row.newFrom || !!linesAbove?.length || !joined(above, message);
    row.ends = !!lines.length || seq + 1 === unreadFrom || !joined(message, below);
    row.unread = message.sender ? model.unreadBy(timeline.chat, seq, message.sender) : null;
    row.quote = quoteOf(message, timeline);
    row.sender = message.sender ? names.user(message.sender) : '';
    row.hue = names.hue(message.sender);
    row.quotedName = row.quote?.quoted ? names.user(row.quote.quoted.sender) : '';
  }
  row.sign = JSON.stringify([message, lines, row.linesBefore, row.newFrom, row.flash, row.unfolded, row.newDay, row.starts, row.ends,
    row.unread, row.sender, row.hue, row.quotedName, row.quote && textOf(row.quote.quoted?.body),
    lines.length ? lines.map((line) => lineText(line, names)) : 0]);
  return row;
}

export function describeWaiting(item, { timeline, names }) {
  const quote = quoteOf({ body: item.body }, timeline);
  return { key: `c${item.cid}`, item, quote, quotedName: quote?.quoted ? names.user(quote.quoted.sender) : '',
    sign: JSON.stringify([item, quote && textOf(quote.quoted?.body)]) };
}

export function lineText({ kind, user, data }, names) {
  const who = names.user(user);
  const list = (users) => users.slice(0, 5).map((id) => names.user(id)).join(', ') + (users.length > 5 ? ` +${users.length - 5}` : '');
  switch (kind) {
    case 'join': return t('line_join', { who, users: list(data.users ?? []) });
    case 'kick': return t('line_kick', { who, users: list(data.users ?? []) });
    case 'leave': return t('line_leave', { who });
    case 'role': return t(`line_role_${['owner', 'manager'].includes(data.role) ? data.role : 'member'}`, { who: names.user(data.user) });
    case 'title': return data.title ? t('line_title', { who, title: data.title }) : t('line_title_gone', { who });
    default: return data.notice ? t('line_notice', { who }) : t('line_notice_gone', { who });
  }
}

const changeLine = (line, names) => h('p.change-line', { dir: 'auto' }, lineText(line, names));

/** The row of a stored message. `on`: {quote, fold, react, menu, failed}. */
export function messageRow(row, { model, names, group, on }) {
  const { message, seq } = row;
  const element = h('li.row', { 'data-seq': seq, 'data-unread': row.unread, tabindex: -1 });
  if (row.starts) element.classList.add('starts');
  if (row.flash) element.classList.add('flash');
  element.append(...[
    message && row.newDay && h('p.day', {}, h('span', {}, day(message.at))),
    row.linesBefore.map((line) => changeLine(line, names)),
    row.newFrom && h('p.new-from', { 'data-test': 'new-from' }, h('span', {}, t('new_from_here'))),
    message ? (message.sender ? bubbleLine(row, { model, names, group, on, element }) : h('p.change-line', { dir: 'auto' }, textOf(message.body)))
      : h('div.placeholder', { 'aria-label': t('loading') }),
    row.lines.map((line) => changeLine(line, names)),
  ].flat().filter(Boolean));
  return element;
}

function bubbleLine(row, { model, names, group, on, element }) {
  const { message, seq, starts, ends } = row;
  const mine = message.sender === model.me;
  element.classList.add(mine ? 'mine' : 'theirs');
  const body = message.deleted
    ? h('p.text.faint', {}, icon('trash'), t('deleted'))
    : bodyText(message.body, { me: model.me, unfolded: row.unfolded, unfold: () => on.fold(seq) });
  const bubble = h('div.bubble', {}, quoteBlock(row, on), body);
  if (message.deleted) bubble.classList.add('bubble-deleted');
  else if (starts) bubble.classList.add('bubble-first');
  return h('article.message', { 'aria-label': t(mine ? 'from_me' : 'from', { who: row.sender, time: clock(message.at) }) },
    !mine && (starts ? names.avatar(message.sender) : h('span.avatar-space')),
    h('div.stack', {},
      !mine && starts && group && h('p.sender', {}, bdi(row.sender)),
      h('div.line', {}, bubble,
        h('div.meta', {},
          row.unread > 0 && h('span.unread', { 'aria-label': t('unread_by', { n: row.unread }) }, count(row.unread)),
          message.edited && !message.deleted && h('span.edited', {}, t('edited')),
          ends && h('time', { datetime: new Date(message.at * 1000).toISOString(), title: fullTime(message.at) }, clock(message.at))),
        !message.deleted && iconButton('more', t('more'), (event) => on.menu(seq, event), { class: 'icon-button row-menu', tabindex: -1 })),
      !message.deleted && reactions(message, on)));
}

function quoteBlock({ quote, quotedName }, on) {
  if (!quote) return null;
  const { quoted, seq } = quote;
  return h('button.quote', { type: 'button', onclick: () => on.quote(seq) },
    h('strong', {}, quoted ? bdi(quotedName) : t('reply')),
    h('span', { dir: 'auto' }, quoted ? excerpt(textOf(quoted.body)) || kindLabel(quoted.body) : t('quoted_unknown')));
}

function reactions(message, on) {
  const entries = Object.entries(message.reactions ?? {}).filter(([, number]) => number > 0).slice(0, 12);
  if (!entries.length) return null;
  return h('div.reactions', {}, entries.map(([reaction, number]) => h(
    reaction === message.mine ? 'button.reaction.reaction-mine' : 'button.reaction',
    { type: 'button', 'aria-pressed': String(reaction === message.mine), onclick: () => on.react(message, reaction) },
    bdi(reaction), h('span', {}, count(number)))));
}

/** The row of a message that waits for its ACK, or failed. */
export function waitingRow({ item, quote, quotedName }, { model, on }) {
  const failed = item.state === 'failed';
  return h('li.row.mine.starts', { 'data-cid': item.cid, tabindex: -1 },
    h('article.message', { 'aria-label': t(failed ? 'failed' : 'sending') },
      h('div.stack', {}, h('div.line', {},
        h(failed ? 'div.bubble.bubble-failed' : 'div.bubble.bubble-waiting', {},
          quoteBlock({ quote, quotedName }, on), bodyText(item.body, { me: model.me, unfold: () => {} })),
        h('div.meta', {}, failed
          ? h('button.failed', { type: 'button', onclick: () => on.failed(item) }, icon('warn'), t('failed'))
          : h('span.sending', { title: t('sending') }, icon('clock'), h('span.visually-hidden', {}, t('sending'))))))));
}
