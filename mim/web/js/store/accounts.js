/* Which accounts this browser knows. Only names and colours are here; tokens are in each account's own database. */

import { deleteDatabase } from './database.js';

const KEY = 'mim.accounts';

export function accounts() {
  try {
    const list = JSON.parse(localStorage.getItem(KEY) ?? '[]');
    return Array.isArray(list) ? list.filter((account) => Number.isSafeInteger(account?.user)) : [];
  } catch {
    return [];
  }
}

/** Put an account first in the list, with what is new about it. */
export function remember(user, details = {}) {
  const known = accounts();
  const old = known.find((account) => account.user === user);
  const list = [{ ...old, ...details, user }, ...known.filter((account) => account.user !== user)];
  localStorage.setItem(KEY, JSON.stringify(list.slice(0, 20)));
}

/** Forget an account and delete everything that is kept of it. */
export async function forget(user) {
  localStorage.setItem(KEY, JSON.stringify(accounts().filter((account) => account.user !== user)));
  if (Number(sessionStorage.getItem('mim.account')) === user) sessionStorage.removeItem('mim.account');
  await deleteDatabase(user);
}
