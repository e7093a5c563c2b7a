/* The person's own page: name and colour, devices, language, looks, other accounts, signing out. */

import * as i18n from '../i18n/index.js';
import { accounts } from '../store/accounts.js';
import { APP_VERSION } from '../connection/protocol.js';
import { bdi, h, icon, iconButton, replace } from './dom.js';
import { fullTime, HUES, hueOf } from './format.js';
import { attempt } from './notice.js';
import { confirm, dialog } from './overlays.js';
import { notifications } from './push.js';
import { applyTheme, theme } from './settings-store.js';

const { t } = i18n;

/** Name, status and colour. */
export async function profile(app, { welcome = false } = {}) {
  const { engine, names } = app;
  const user = engine.model.users.get(engine.user) ?? {};
  let hue = hueOf(user, engine.user);
  await dialog(t(welcome ? 'profile_welcome' : 'profile'), (close) => {
    const name = h('input.field', { maxlength: 64, required: true, value: user.name ?? '', dir: 'auto', autocomplete: 'name', autofocus: true });
    const status = h('input.field', { maxlength: 200, value: user.status ?? '', dir: 'auto' });
    const colours = h('div.colours', { role: 'radiogroup', 'aria-label': t('colour') });
    const draw = () => replace(colours, HUES.map((one) => h(`button.colour.hue-${one}`, {
      type: 'button', role: 'radio', 'aria-checked': String(one === hue), 'aria-label': t(`colour_${one}`), title: t(`colour_${one}`),
      onclick: () => { hue = one; draw(); colours.children[HUES.indexOf(one)].focus(); } }, icon('check'))));
    draw();
    return h('form', { onsubmit: async (event) => {
      event.preventDefault();
      if (await attempt(engine.call('profile.update', { name: name.value, status: status.value, photo: `color:${hue}` }))) close();
    } },
    h('label', {}, t('name'), name), h('label', {}, t('status'), status),
    h('div.block', {}, h('h3', {}, t('colour')), colours),
    h('div.actions', {}, h('button.primary', {}, t('save'))));
  });
  names.asked.delete(engine.user);
}

export async function settings(app) {
  const { engine, names } = app;
  const { model } = engine;
  const off = [];
  await dialog(t('settings'), (close) => {
    const me = h('section', {});
    const drawMe = () => replace(me, h('button.entry', { type: 'button', onclick: () => profile(app) }, names.avatar(engine.user),
      h('span.entry-main', {}, bdi(names.user(engine.user), 'strong'), h('span.faint', { dir: 'auto' }, model.users.get(engine.user)?.status || model.session.phone || '')), icon('edit')));
    drawMe();
    off.push(model.on('user', drawMe));
    const devices = h('ul.entries', { 'data-test': 'devices' });
    const drawDevices = () => listDevices(app, devices);
    drawDevices();
    off.push(model.on('devices', drawDevices));
    return [
      me,
      h('section.block', {}, h('h3', {}, t('language')), segments([['', t('as_browser')], ['en', 'English'], ['ko', '한국어']], i18n.chosen() ?? '', (next) => {
        i18n.set(next);
        location.reload();
      })),
      h('section.block', {}, h('h3', {}, t('looks')), segments([['auto', t('as_browser')], ['light', t('light')], ['dark', t('dark')]], theme(), applyTheme)),
      notifications(app, off),
      h('section.block', {}, h('h3', {}, t('devices')), devices),
      h('section.block', {}, h('h3', {}, t('accounts')), h('ul.entries', {}, accounts().filter(({ user }) => user !== engine.user).map(({ user, name }) => h('li', {},
        h('span.entry-main', {}, bdi(name || `#${user}`)),
        h('a.button', { href: `/#/${user}`, target: '_blank', rel: 'noopener' }, t('open_window'))))),
      h('button.entry', { type: 'button', onclick: () => { close(); location.hash = '#/sign-in'; } }, icon('add'), t('add_account'))),
      h('button.entry.danger-text', { type: 'button', onclick: async () => {
        const waiting = model.outbox.size ? t('sign_out_waiting', { n: model.outbox.size }) : t('sign_out_sure');
        if (!await confirm(t('sign_out'), waiting, t('sign_out'))) return;
        close();
        await signOut(app);
      } }, icon('leave'), t('sign_out')),
      h('p.faint.version', {}, `mim ${APP_VERSION}`),
    ];
  });
  off.forEach((stop) => stop());
}

async function listDevices(app, list) {
  const { engine } = app;
  const devices = await engine.call('device.list').catch(() => null);
  if (!devices) {
    replace(list, h('li.faint', {}, t('error_offline')));
    return;
  }
  const here = engine.model.session.device;
  replace(list, devices.map(({ device, name, os, seen }) => h('li', {}, icon('device'),
    h('span.entry-main', {}, bdi(name || os || t('device')), h('span.faint', {}, device === here ? t('this_device') : t('last_seen', { when: fullTime(seen) }))),
    device !== here && iconButton('leave', t('revoke'), async () => {
      if (!await confirm(t('revoke'), t('revoke_sure', { name: name || os || t('device') }), t('revoke'))) return;
      if (await attempt(engine.call('device.revoke', { device }))) listDevices(app, list);
    }))));
}

function segments(options, value, change) {
  const group = h('div.segments', { role: 'radiogroup' });
  const draw = (now) => replace(group, options.map(([key, text]) => h('button', {
    type: 'button', role: 'radio', 'aria-checked': String(key === now), onclick: () => {
      change(key);
      draw(key);
    } }, text)));
  draw(value);
  return group;
}

/** Sign out here: the server revokes the device, and nothing of the account stays in this browser. */
async function signOut(account) {
  const { app, engine, user } = account;
  const { device, phone } = engine.model.session;
  account.leaving = true; // the end of the session is no news
  const told = await engine.call('device.revoke', { device }).then(() => true, () => engine.model.status.state === 'signed_out');
  engine.tell([{ type: 'status', status: { state: 'signed_out' } }]);
  await app.forget(user, phone, told ? null : t('sign_out_untold'));
}
