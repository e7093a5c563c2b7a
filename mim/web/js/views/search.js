/* Searching one chat or all of them. The server searches; offline, what is stored here is looked through. */

import { t } from '../i18n/index.js';
import { result, seqs } from '../store/database.js';
import { bdi, h, replace } from './dom.js';
import { when } from './format.js';
import { sentence } from './notice.js';
import { dialog } from './overlays.js';
import { textOf } from './text.js';

const PAGE = 30;
const WAIT_MS = 250;
const AROUND = 40;
const LOOKED_THROUGH = 20000;

export async function search(app, chat = null) {
  const { engine, names } = app;
  const { model } = engine;
  await dialog(chat ? t('search_here') : t('search_all'), (close) => {
    const results = h('ul.entries', { 'aria-label': t('results') });
    const told = h('p.faint', { role: 'status' }, t('search_hint'));
    const more = h('button', { type: 'button', hidden: true, onclick: () => next() }, t('show_more'));
    let timer = 0;
    let round = 0;
    let last = null;

    const row = ({ chat: where, seq, sender, at, body }, query) => {
      const record = model.chats.get(where);
      return h('li', {}, h('button.entry', { type: 'button', 'data-found': `${where}/${seq}`, onclick: () => { close(); app.go(where, seq); } },
        chat || !record ? names.avatar(sender) : names.chatAvatar(record),
        h('span.entry-main', {},
          h('span.found-head', {}, bdi(chat || !record ? names.user(sender) : names.chat(record)), h('time.faint', {}, when(at))),
          h('span.faint', { dir: 'auto' }, !chat && record?.kind === 'group' && [bdi(names.user(sender)), ': '], marked(textOf(body), query)))));
    };

    const next = async () => {
      const mine = ++round;
      const query = field.value.trim();
      if ([...query].length < 2) {
        replace(results);
        told.textContent = t('search_hint');
        more.hidden = true;
        return;
      }
      told.textContent = t('searching');
      try {
        const params = { query, limit: PAGE, ...(chat && { chat }), ...(last && { before: [last.at, last.chat, last.seq] }) };
        const online = model.status.state === 'online';
        const found = online ? await engine.call('message.search', params) : await locally(engine.db, query, chat);
        if (mine !== round) return;
        if (!last) replace(results);
        results.append(...found.map((hit) => row(hit, query)));
        last = found.at(-1) ?? last;
        more.hidden = !online || found.length < PAGE;
        told.textContent = results.children.length ? t(online ? 'found' : 'found_here', { n: results.children.length }) : t('nothing_found');
      } catch (error) {
        if (mine === round) told.textContent = sentence(error);
      }
    };

    const field = h('input.field', { type: 'search', maxlength: 100, 'aria-label': t('search_all'), placeholder: t('search_placeholder'), autofocus: true, dir: 'auto',
      oninput: () => {
        clearTimeout(timer);
        timer = setTimeout(() => { last = null; next(); }, WAIT_MS);
      } });
    return [field, told, results, more];
  }, { spec: 'dialog.sheet.sheet-tall' });
}

/** The text around the first place where it was found, with that place marked. */
function marked(text, query) {
  const at = text.toLowerCase().indexOf(query.toLowerCase());
  if (at < 0) return text.slice(0, 2 * AROUND);
  const from = Math.max(0, at - AROUND / 2);
  return [from ? '…' : '', text.slice(from, at), h('mark', {}, text.slice(at, at + query.length)), text.slice(at + query.length, at + query.length + 2 * AROUND)];
}

async function locally(db, query, chat) {
  const words = query.toLowerCase();
  const found = [];
  const store = db.transaction('messages').objectStore('messages');
  let request = store.openCursor(chat ? seqs(chat, 0, Infinity) : null, 'prev');
  for (let looked = 0; looked < LOOKED_THROUGH && found.length < PAGE; looked++) {
    const cursor = await result(request);
    if (!cursor) break;
    if (textOf(cursor.value.body).toLowerCase().includes(words)) found.push(cursor.value);
    request = cursor.request;
    cursor.continue();
  }
  return found.sort((one, other) => other.at - one.at);
}
