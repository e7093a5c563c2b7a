/* Notifications while no page is open. A browser has one subscription, so one account of it is told: the one that turned
   it on last. */

import { language, more, t } from '../i18n/index.js';
import { h, icon, replace } from './dom.js';
import { attempt, toast } from './notice.js';

const KEY = 'mim.push'; // the account that is told

export const isOn = (user) => localStorage.getItem(KEY) === String(user);

/** What the account registered is told to the server again: it forgets what a push service called dead. */
export async function renew(engine) {
  const subscription = await (await worker())?.pushManager.getSubscription();
  if (subscription && Notification.permission === 'granted') await register(engine, subscription);
}

/** The part of the settings; empty where the browser or the server has no push. `off` takes what ends with it. */
export function notifications(app, off) {
  const { engine } = app;
  const part = h('section.block', { 'data-test': 'push', hidden: true });
  const draw = async () => {
    const registration = await worker();
    const { vapid } = registration ? await engine.call('push.config').catch(() => ({})) : {};
    if (!vapid) return;
    await more();
    const on = isOn(engine.user) && Boolean(await registration.pushManager.getSubscription());
    const change = async () => {
      if (on) await turnOff(engine, registration);
      else if (await Notification.requestPermission() === 'granted') await attempt(turnOn(engine, registration, vapid));
      else toast(t('notify_refused'));
      await draw();
    };
    replace(part, h('h3', {}, t('notifications')), h('button.entry', {
      type: 'button', role: 'switch', 'aria-checked': String(on), onclick: change,
    }, icon('bell'), h('span.entry-main', {}, t('notify_away')), h(on ? 'span.switch.switch-on' : 'span.switch', { 'aria-hidden': 'true' })));
    part.hidden = false;
  };
  off.push(engine.model.on('status', draw)); // the server is asked as soon as it can be
  draw();
  return part;
}

const worker = async () => ('PushManager' in globalThis ? navigator.serviceWorker?.getRegistration() : undefined);

async function turnOn(engine, registration, vapid) {
  const known = await registration.pushManager.getSubscription();
  const subscription = known ?? await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: vapid });
  await register(engine, subscription);
  localStorage.setItem(KEY, engine.user);
}

async function turnOff(engine, registration) {
  localStorage.removeItem(KEY);
  await attempt(engine.call('device.push', { platform: 'webpush', token: null }));
  await (await registration.pushManager.getSubscription())?.unsubscribe();
}

const register = (engine, subscription) => engine.call('device.push', { platform: 'webpush', token: JSON.stringify(subscription), locale: language });
