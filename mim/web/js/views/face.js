/* A session that will not come back by itself: why, and what the person can do. */

import { t } from '../i18n/index.js';
import { h, icon } from './dom.js';
import './overlays.js'; // its words, icons and style
import { safeLink } from './text.js';

/** The page for an end that needs the person; it goes away when the state does. */
export function face(status, { here, signIn, update }) {
  document.querySelector('dialog.face')?.remove();
  const store = /^https?:/.test(status.detail ?? '') ? safeLink(status.detail) : null;
  const actions = {
    replaced: [[t('use_here'), here]],
    expired: [[t('sign_in_again'), signIn]],
    signed_out: [[t('sign_in_again'), () => {}]],
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
