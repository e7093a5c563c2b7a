/* What lies over the page for a while: dialogs and menus. They are the browser's own, which keep the focus.

   Loaded, with its style, when the first of them is needed. */

import { more, t } from '../i18n/index.js';
import { addIcons, h, icon, iconButton } from './dom.js';
import { style } from './style.js';

await Promise.all([style('/css/overlays.css'), more()]);

addIcons({
  copy: 'M9 9h10v11H9zM15 9V4H5v11h4', bell: 'M6 16v-5a6 6 0 0 1 12 0v5l1.500 1h-15zM10 20h4',
  crown: 'M4 18h16M4 15l-1-8 5 4 4-6 4 6 5-4-1 8z', leave: 'M14 4H5v16h9M10 12h11M17 8l4 4-4 4',
  check: 'M5 12l5 5 9-10', device: 'M7 3h10v18H7zM11 18h2',
});

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
  if (document.querySelector('dialog.menu')) return; // asked for twice while it was loading
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
