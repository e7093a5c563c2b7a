/* Times, names and colours as people read them. */

import { language, t } from '../i18n/index.js';
import { h } from './dom.js';

const formats = {};
const format = (name, options) => (formats[name] ??= new Intl.DateTimeFormat(language, options));
const date = (at) => new Date(at * 1000);

export const clock = (at) => format('clock', { hour: 'numeric', minute: '2-digit' }).format(date(at));
export const fullTime = (at) => format('full', { dateStyle: 'long', timeStyle: 'short' }).format(date(at));
export const day = (at) => format('day', { year: 'numeric', month: 'long', day: 'numeric', weekday: 'long' }).format(date(at));
export const dayKey = (at) => date(at).toDateString();
export const minuteKey = (at) => Math.floor(at / 60);

/** In a list: the time today, then yesterday, then the date. */
export function when(at) {
  const today = new Date();
  if (dayKey(at) === today.toDateString()) return clock(at);
  today.setDate(today.getDate() - 1);
  if (dayKey(at) === today.toDateString()) return t('yesterday');
  return date(at).getFullYear() === new Date().getFullYear()
    ? format('short', { month: 'short', day: 'numeric' }).format(date(at))
    : format('year', { year: 'numeric', month: 'numeric', day: 'numeric' }).format(date(at));
}

export const count = (number) => (number > 999 ? '999+' : String(number));

export const HUES = ['coral', 'amber', 'olive', 'teal', 'sky', 'indigo', 'violet', 'rose'];

/** A picture is a colour, kept in the profile's `photo` as `color:teal`; without one it follows from the id. */
export function hueOf(user, id) {
  const hue = /^color:([a-z]+)$/.exec(user?.photo ?? '')?.[1];
  return HUES.includes(hue) ? hue : HUES[id % HUES.length];
}

function initials(name) {
  const letters = [...new Intl.Segmenter(language).segment(name.replace(/[\p{C}\p{Z}]+/gu, ' ').trim())].map(({ segment }) => segment);
  return (/^\p{Script=Hangul}/u.test(name) ? letters.slice(0, 2) : letters.slice(0, 1)).join('').slice(0, 8).toUpperCase();
}

export function avatar(name, hue, spec = 'span.avatar') {
  return h(`${spec}.hue-${hue}`, { 'aria-hidden': 'true' }, initials(name) || '·');
}
