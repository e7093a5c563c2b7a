/* Short news: toasts, words for what went wrong, and what only screen readers hear. */

import { more, t } from '../i18n/index.js';
import { h } from './dom.js';

const TOAST_MS = 5000;

export function toast(text) {
  const box = document.getElementById('toasts');
  const element = h('div.toast', {}, text);
  while (box.children.length >= 3) box.firstChild.remove();
  box.append(element);
  setTimeout(() => element.remove(), TOAST_MS);
}

/** Say something to screen readers only. */
export function announce(text) {
  document.getElementById('announcer').textContent = text;
}

const WORDS = new Set(['forbidden', 'not_member', 'not_found', 'too_large', 'rate_limited', 'full', 'unavailable',
  'offline', 'lost', 'unauthorized', 'bad_frame', 'blocked', 'storage', 'unknown']);

export const sentence = (error) => t(`error_${WORDS.has(error?.code) ? error.code : 'internal'}`);

/** Tell what went wrong. The words for it are loaded when they are needed. */
export async function complain(error) {
  await more().catch(() => {});
  toast(sentence(error));
}

/** Await something a person asked for; what goes wrong is told. True when it went well. */
export async function attempt(promise) {
  try {
    await promise;
    return true;
  } catch (error) {
    complain(error);
    return false;
  }
}
