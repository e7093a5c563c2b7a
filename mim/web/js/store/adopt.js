/* Taking up a new sign-in. */

import { remember } from './accounts.js';
import { get, openDatabase, put } from './database.js';

/** A sign-in that succeeded: keep its tokens in the account's database. */
export async function adopt({ token, refresh, user, device }, phone) {
  const db = await openDatabase(user);
  const before = await get(db, 'meta', 'session');
  await put(db, 'meta', { token, refresh, user, device, phone }, 'session');
  if (before && before.device !== device) await put(db, 'meta', null, 'cursor');
  db.close();
  remember(user, { phone });
}
