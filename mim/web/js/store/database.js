/* The account's own database in this browser, and promises around IndexedDB.

   One database for each account (`mim-42`): signing out deletes it whole, tokens and all. */

import { Refused } from '../connection/protocol.js';

const VERSION = 1;
const MOST_WAITING = 1000; // messages in the outbox
const STORES = {
  meta: undefined, //                          name → value: session, cursor, cid
  chats: { keyPath: 'chat' }, //               the state of a chat and how far this device has it
  messages: { keyPath: ['chat', 'seq'] },
  lines: { keyPath: ['chat', 'after', 'rev'] }, // changes that show as a line: who came, a new title
  outbox: { keyPath: 'cid' },
  users: { keyPath: 'user' },
  drafts: { keyPath: 'chat' },
};

export const names = Object.keys(STORES);

export const result = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

export const finished = (transaction) => new Promise((resolve, reject) => {
  transaction.oncomplete = () => resolve();
  transaction.onabort = transaction.onerror = () => reject(transaction.error);
});

export const databaseName = (user) => `mim-${user}`;

export async function openDatabase(user) {
  const request = indexedDB.open(databaseName(user), VERSION);
  request.onupgradeneeded = () => {
    for (const [name, options] of Object.entries(STORES)) {
      if (!request.result.objectStoreNames.contains(name)) request.result.createObjectStore(name, options);
    }
  };
  const db = await result(request);
  db.onversionchange = () => db.close(); // another tab signs out
  return db;
}

/** Closes by itself in other tabs (`versionchange`), so it does not wait for them for ever. */
export const deleteDatabase = (user) => new Promise((resolve) => {
  const request = indexedDB.deleteDatabase(databaseName(user));
  request.onsuccess = request.onerror = request.onblocked = () => resolve();
});

export const get = (db, store, key) => result(db.transaction(store).objectStore(store).get(key));

export const all = (db, store, range) => result(db.transaction(store).objectStore(store).getAll(range));

export async function put(db, store, value, key) {
  const transaction = db.transaction(store, 'readwrite');
  transaction.objectStore(store).put(value, key);
  await finished(transaction);
}

export async function remove(db, store, key) {
  const transaction = db.transaction(store, 'readwrite');
  transaction.objectStore(store).delete(key);
  await finished(transaction);
}

/** Take the next cid and queue a message under it in one step, so that no two tabs use the same (proto/messages.md#cid). */
export async function queueMessage(db, item) {
  const transaction = db.transaction(['meta', 'outbox'], 'readwrite');
  const meta = transaction.objectStore('meta');
  if ((await result(transaction.objectStore('outbox').count())) >= MOST_WAITING) throw new Refused('full');
  const cid = ((await result(meta.get('cid'))) ?? 0) + 1;
  const { device } = await result(meta.get('session'));
  const queued = { ...item, cid, device, at: Math.floor(Date.now() / 1000), state: 'pending' };
  meta.put(cid, 'cid');
  transaction.objectStore('outbox').put(queued);
  await finished(transaction);
  return queued;
}

/** Keys of one chat from seq `low` to `high`, in `messages` and, by `after`, in `lines`. */
export const range = (chat, low, high) => IDBKeyRange.bound([chat, low], [chat, high, []]);
export const seqs = (chat, low, high) => IDBKeyRange.bound([chat, low], [chat, high]);
