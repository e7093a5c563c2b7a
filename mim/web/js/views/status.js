/* How the connection is: a bar while it is away, a whole page when it will not come back by itself. */

import { t } from '../i18n/index.js';
import { h, icon, replace } from './dom.js';
import { safeLink } from './text.js';

const PATIENCE_MS = 1500; // a short break is nobody's business

export function statusBar(bar, { state }, { newer, update, wake }) {
  clearTimeout(bar.timer);
  const show = (...content) => {
    bar.dataset.state = state;
    replace(bar, ...content);
  };
  if (state === 'online') {
    if (newer) show(h('span', {}, t('newer')), h('button', { type: 'button', onclick: update }, t('reload')));
    else show();
  } else if (state === 'offline' || state === 'connecting') {
    const text = () => show(icon('warn'), h('span', {}, t(navigator.onLine ? 'connecting' : 'offline')),
      h('button', { type: 'button', onclick: wake }, t('try_now')));
    if (bar.dataset.state === 'offline') text();
    else {
      bar.timer = setTimeout(() => {
        bar.dataset.state = 'offline';
        statusBar(bar, { state: 'offline' }, { newer, update, wake });
      }, PATIENCE_MS);
    }
  } else show();
}

/** The page for an end that needs the person; it goes away when the state does. */
export function face(app, status, { here, signIn, update, gone }) {
  document.querySelector('dialog.face')?.remove();
  const store = /^https?:/.test(status.detail ?? '') ? safeLink(status.detail) : null;
  const actions = {
    replaced: [[t('use_here'), here]],
    expired: [[t('sign_in_again'), signIn]],
    signed_out: [[t('sign_in_again'), gone]],
    update: [[t('reload'), update]],
    broken: [[t('reload'), update]],
  }[status.state];
  if (!actions) return;
  document.querySelectorAll('dialog').forEach((dialog) => dialog.close());
  const element = h('dialog.face', { 'aria-labelledby': 'face-title', 'data-face': status.state, oncancel: (event) => event.preventDefault() },
    h('div.face-picture', {}, icon(status.state === 'update' ? 'down' : status.state === 'replaced' ? 'device' : 'warn')),
    h('h1', { id: 'face-title' }, t(`face_${status.state}`)),
    h('p', {}, t(`face_${status.state}_text`)),
    h('div.actions', {},
      store && h('a.button', { href: store, rel: 'noopener noreferrer', target: '_blank' }, t('get_update')),
      actions.map(([text, act]) => h('button.primary', { type: 'button', onclick: () => { element.remove(); act(); } }, text))));
  document.body.append(element);
  element.showModal();
}
