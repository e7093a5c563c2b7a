/* Phone, then code. In development the server tells the code, and it is shown. */

import { more, t } from '../i18n/index.js';
import { post } from '../connection/protocol.js';
import { accounts } from '../store/accounts.js';
import { adopt } from '../store/adopt.js';
import { bdi, h, icon, replace } from './dom.js';
import { sentence } from './notice.js';
import { style } from './style.js';

await Promise.all([style('/css/signin.css'), more()]);

export function signIn(root, { phone = '', done, cancel }) {
  const problem = h('p.problem', { role: 'alert' });
  const page = h('main.signin', {});
  const busy = async (form, work) => {
    problem.textContent = '';
    form.querySelectorAll('button').forEach((button) => { button.disabled = true; });
    try {
      await work();
    } catch (error) {
      problem.textContent = error.code === 'unauthorized' ? t('wrong_code') : error.code === 'bad_frame' ? t('wrong_phone') : sentence(error);
    }
    form.querySelectorAll('button').forEach((button) => { button.disabled = false; });
  };
  const show = (title, text, form) => {
    replace(page, h('img.logo', { src: '/icons/icon.svg', alt: '', width: 72, height: 72 }),
      h('h1', {}, title), h('p.faint', {}, text), form, problem, form.extra);
    form.querySelector('input')?.focus();
  };

  const askPhone = () => {
    const field = h('input.field', { type: 'tel', name: 'phone', autocomplete: 'tel', maxlength: 64, required: true, value: phone,
      placeholder: '010-1234-5678', 'aria-label': t('phone') });
    const form = h('form', { onsubmit: (event) => {
      event.preventDefault();
      phone = field.value;
      busy(form, async () => askCode((await post('/v1/auth/code', { phone })).code));
    } }, h('label', {}, t('phone'), field), h('button.primary.wide', {}, t('get_code')));
    form.extra = known();
    show(t('welcome'), t('welcome_text'), form);
  };

  const known = () => {
    const list = cancel ? accounts() : [];
    return [
      list.length > 0 && h('ul.accounts', { 'aria-label': t('accounts') }, list.map(({ user, name }) => h('li', {},
        h('a', { href: `#/${user}` }, icon('people'), bdi(name || `#${user}`))))),
      cancel && h('button.link', { type: 'button', onclick: cancel }, t('back')),
    ];
  };

  const askCode = (told) => {
    const field = h('input.field.code', { name: 'code', inputmode: 'numeric', autocomplete: 'one-time-code', pattern: '\\d{6}', maxlength: 6,
      required: true, 'aria-label': t('code'), value: '' });
    const form = h('form', { onsubmit: (event) => {
      event.preventDefault();
      busy(form, async () => {
        const session = await post('/v1/auth/verify', { phone, code: field.value, device: { name: deviceName(), os: 'web' } });
        await adopt(session, phone);
        done(session.user);
      });
    } },
    told && h('p.told', {}, t('dev_code'), ' ', h('button.told-code', { type: 'button', onclick: () => { field.value = told; } }, told)),
    h('label', {}, t('code'), field), h('button.primary.wide', {}, t('sign_in')));
    form.extra = h('button.link', { type: 'button', onclick: askPhone }, t('other_phone'));
    show(t('enter_code'), t('code_sent', { phone }), form);
  };

  replace(root, page);
  askPhone();
}

function deviceName() {
  const agent = navigator.userAgent;
  const [, browser] = /(Edg|OPR|Firefox|Chrome|Safari)\//.exec(agent) ?? [];
  const [, system] = /(iPhone|iPad|Android|Windows|Mac OS X|CrOS|Linux)/.exec(agent) ?? [];
  return [{ Edg: 'Edge', OPR: 'Opera' }[browser] ?? browser ?? 'Browser', system === 'Mac OS X' ? 'macOS' : system].filter(Boolean).join(', ');
}
