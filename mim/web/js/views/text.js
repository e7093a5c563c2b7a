/* A message's text as nodes: links, mentions, folding. Nothing is parsed as markup. */

import { t } from '../i18n/index.js';
import { textOf } from '../store/batch.js';
import { h } from './dom.js';

const LINK = /\b(?:https?:\/\/|mailto:)[^\s<>"\u0000-\u001f\u202a-\u202e\u2066-\u2069]+|\b[\w.+-]{1,64}@[a-z\d-]{1,63}(?:\.[a-z\d-]{1,63})+/gi;
const FOLD_AT = 700;
const FOLD_LINES = 14;

export { textOf };

/** The address as it may be followed, or null: only http, https and mailto. */
export function safeLink(text) {
  const address = /^(?:https?|mailto):/i.test(text) ? text : `mailto:${text}`;
  try {
    const { protocol, href } = new URL(address);
    return ['http:', 'https:', 'mailto:'].includes(protocol) ? href : null;
  } catch {
    return null;
  }
}

/** The end of a sentence is no part of a link; a closing bracket is only when it was opened in it. */
function trimmed(found) {
  let link = found;
  for (;;) {
    const last = link.at(-1);
    if (/[.,;:!?'’”…。]/.test(last)) link = link.slice(0, -1);
    else if (last === ')' && !link.includes('(')) link = link.slice(0, -1);
    else return link;
  }
}

function linked(text) {
  const nodes = [];
  let done = 0;
  for (const match of text.matchAll(LINK)) {
    const link = trimmed(match[0]);
    const href = safeLink(link);
    if (!href) continue;
    nodes.push(text.slice(done, match.index),
      h('a', { href, target: '_blank', rel: 'noopener noreferrer nofollow', dir: 'ltr' }, link));
    done = match.index + link.length;
  }
  nodes.push(text.slice(done));
  return nodes;
}

/** Mentions that lie within the text, in order, none over another. */
export function mentionsOf(body) {
  const text = textOf(body);
  const list = Array.isArray(body?.m) ? body.m : [];
  let end = 0;
  return list
    .filter((entry) => Array.isArray(entry) && entry.every(Number.isSafeInteger))
    .sort((one, other) => one[0] - other[0])
    .filter(([offset, length]) => {
      const fits = offset >= end && length > 0 && offset + length <= text.length;
      if (fits) end = offset + length;
      return fits;
    });
}

function rich(body, limit, me) {
  const text = textOf(body);
  const shown = text.slice(0, limit);
  const nodes = [];
  let done = 0;
  for (const [offset, length, user] of mentionsOf(body)) {
    if (offset + length > shown.length) break;
    nodes.push(linked(shown.slice(done, offset)),
      h(user === me ? 'span.mention.mention-me' : 'span.mention', { dir: 'auto' }, shown.slice(offset, offset + length)));
    done = offset + length;
  }
  nodes.push(linked(shown.slice(done)));
  return nodes;
}

/** Where a long text is cut for the fold; its whole length when it is short. */
function foldAt(text) {
  let end = text.length > FOLD_AT ? FOLD_AT : text.length;
  let line = -1;
  for (let count = 0; count < FOLD_LINES; count++) {
    line = text.indexOf('\n', line + 1);
    if (line < 0 || line >= end) return text.length - end > FOLD_AT / 5 ? end : text.length;
  }
  end = Math.min(end, line);
  return text.length - end > 20 ? end : text.length;
}

/** The text of a message; `unfolded` and `unfold()` are the reader's choice for a long one. */
export function bodyText(body, { me, unfolded, unfold }) {
  const text = textOf(body);
  if (!text) return h('p.text.faint', {}, kindLabel(body));
  const limit = unfolded ? text.length : foldAt(text);
  return [
    h('p.text', { dir: 'auto' }, rich(body, limit, me), limit < text.length ? '…' : null),
    limit < text.length && h('button.fold', { type: 'button', onclick: unfold }, t('show_all')),
  ];
}

const KINDS = new Set(['photo', 'video', 'file', 'voice', 'sticker', 'location', 'contact', 'poll', 'schedule', 'post', 'link', 'call', 'alim']);

export const kindLabel = (body) => `[${t(KINDS.has(body?.k ?? body?.kind) ? `kind_${body.k ?? body.kind}` : 'kind_other')}]`;

/** One line of a text, for lists and quotes. */
export const excerpt = (text, length = 120) => [...text.slice(0, length * 3).replace(/\s+/g, ' ')].slice(0, length).join('');
