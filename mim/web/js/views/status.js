/* How the connection is: a bar while it is away. */

import { t } from '../i18n/index.js';
import { h, icon, replace } from './dom.js';

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
