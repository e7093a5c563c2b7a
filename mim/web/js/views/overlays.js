/* What lies over the page for a moment: toasts, dialogs, menus. Dialogs are the browser's own, which keep the focus. */

import { t } from '../i18n/index.js';
import { h, icon, iconButton } from './dom.js';

const TOAST_MS = 5000;
const LONG_PRESS_MS = 450;

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

/** Await something a person asked for; what goes wrong is told. True when it went well. */
export async function attempt(promise) {
  try {
    await promise;
    return true;
  } catch (error) {
    toast(sentence(error));
    return false;
  }
}

/** A dialog with a heading and a way out; `fill(close)` gives its content. Resolves with what `close` was given. */
export function dialog(title, fill, { spec = 'dialog.sheet' } = {}) {
  return new Promise((resolve) => {
    const heading = `dialog-${Math.random().toString(36).slice(2)}`;
    const element = h(spec, { 'aria-labelledby': heading });
    let answer;
    const close = (value) => {
      answer = value;
      element.close();
    };
    element.append(
      h('header.sheet-head', {}, h('h2', { id: heading, dir: 'auto' }, title), iconButton('close', t('close'), () => close())),
      h('div.sheet-body', {}, fill(close, element)));
    element.addEventListener('close', () => {
      element.remove();
      resolve(answer);
    });
    element.addEventListener('click', (event) => { if (event.target === element) close(); });
    document.body.append(element);
    element.showModal();
  });
}

export const confirm = (title, text, action, { danger = true } = {}) => dialog(title, (close) => [
  text && h('p', { dir: 'auto' }, text),
  h('div.actions', {},
    h('button', { type: 'button', onclick: () => close(false) }, t('cancel')),
    h(danger ? 'button.danger' : 'button.primary', { type: 'button', onclick: () => close(true) }, action)),
]);

/** Ask for one text. Resolves with it trimmed, or undefined. */
export const prompt = (title, { label, value = '', max = 100, multiline = false, action = t('save'), empty = true }) => dialog(
  title, (close) => {
    const field = h(multiline ? 'textarea.field' : 'input.field', {
      'aria-label': label ?? title, maxlength: max, value, dir: 'auto', rows: multiline ? 5 : null, required: !empty, autofocus: true });
    return h('form', { onsubmit: (event) => { event.preventDefault(); close(field.value.trim()); } }, field,
      h('div.actions', {},
        h('button', { type: 'button', onclick: () => close() }, t('cancel')),
        h('button.primary', {}, action)));
  });

/**
 * A menu at a place. `items`: {label, icon, act, danger} or an element (a row of reactions).
 * Arrow keys move, Escape closes and gives the focus back.
 */
export function menu(items, { x, y, label = t('more') }) {
  const before = document.activeElement;
  const element = h('dialog.menu', { 'aria-label': label });
  const close = () => element.close();
  const list = h('div', { role: 'menu', 'aria-label': label }, items.filter(Boolean).map((item) => {
    if (item instanceof Element) {
      item.addEventListener('click', (event) => { if (event.target.closest('button')) close(); });
      return item;
    }
    return h(item.danger ? 'button.menu-item.danger-text' : 'button.menu-item', {
      type: 'button', role: 'menuitem', onclick: () => { close(); item.act(); } }, icon(item.icon), item.label);
  }));
  element.append(list);
  element.addEventListener('keydown', (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const buttons = [...element.querySelectorAll('button')];
    buttons.at((buttons.indexOf(document.activeElement) + step) % buttons.length).focus();
  });
  element.addEventListener('click', (event) => { if (event.target === element) close(); });
  element.addEventListener('close', () => {
    element.remove();
    if (before?.isConnected && document.activeElement === document.body) before.focus({ preventScroll: true });
  });
  document.body.append(element);
  element.showModal();
  const { width, height } = list.getBoundingClientRect();
  if (matchMedia('(min-width: 720px)').matches) {
    element.style.left = `${Math.max(8, Math.min(x, innerWidth - width - 8))}px`;
    element.style.top = `${Math.max(8, y + height + 8 > innerHeight ? y - height : y)}px`;
  }
}

/** Open a menu by the context menu key or click, or a long press, on whatever `find(target)` gives. */
export function onMenu(element, find, open) {
  let timer = 0;
  let pressed = false;
  element.addEventListener('contextmenu', (event) => {
    const found = find(event.target);
    if (!found || event.target.closest('a')) return;
    event.preventDefault();
    const box = found.getBoundingClientRect();
    if (!pressed) open(found, event.clientX || box.left + 40, event.clientY || box.bottom);
  });
  element.addEventListener('pointerdown', (event) => {
    pressed = false;
    if (event.pointerType === 'mouse') return;
    const found = find(event.target);
    if (found) {
      timer = setTimeout(() => {
        pressed = true;
        open(found, event.clientX, event.clientY);
      }, LONG_PRESS_MS);
    }
  });
  for (const name of ['pointerup', 'pointermove', 'pointercancel']) {
    element.addEventListener(name, (event) => {
      if (name !== 'pointermove' || Math.hypot(event.movementX, event.movementY) > 4) clearTimeout(timer);
    });
  }
  element.addEventListener('click', (event) => { // the click that ends a long press is no click
    if (!pressed) return;
    pressed = false;
    event.preventDefault();
    event.stopPropagation();
  }, true);
}
