/* Keeps the client's own files, so that it opens without a network. Messages are kept by the page, in IndexedDB.

   The server writes `self.SHELL = {version, files}` in front of this file (mim/rest/web.py). All files of one version
   are kept together and served together: a page never runs half an old and half a new client. */

const NAME = `mim-${self.SHELL.version}`;

self.addEventListener('install', (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(NAME);
    await cache.addAll(self.SHELL.files.map((path) => new Request(path, { cache: 'no-cache' })));
  })());
});

self.addEventListener('activate', (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) {
      if (name.startsWith('mim-') && name !== NAME) await caches.delete(name);
    }
    await self.clients.claim();
  })());
});

self.addEventListener('message', (event) => {
  if (event.data === 'take over') self.skipWaiting();
});

self.addEventListener('fetch', (event) => {
  const { pathname, origin } = new URL(event.request.url);
  if (event.request.method !== 'GET' || origin !== self.location.origin) return;
  if (!self.SHELL.files.includes(pathname)) return;
  event.respondWith((async () => {
    const cache = await caches.open(NAME);
    return (await cache.match(pathname)) ?? fetch(event.request);
  })());
});

/* A message for a device that does not listen (docs/push.md#web-push). Something has to be shown for every one; a quiet one
   takes the place of what is shown of its chat. */
self.addEventListener('push', (event) => {
  const { style, title, body, tag, chat, user, badge } = event.data.json();
  const silent = style === 'quiet' || style === 'withdraw';
  self.navigator.setAppBadge?.(badge).catch(() => {});
  event.waitUntil(self.registration.showNotification(title || 'mim', {
    body, tag, silent, renotify: !silent, icon: '/icons/icon-192.png', data: { path: chat ? `/#/${user}/${chat}` : '/' },
  }));
});

self.addEventListener('notificationclick', (event) => {
  event.notification.close();
  const { path } = event.notification.data;
  event.waitUntil((async () => {
    const pages = await self.clients.matchAll({ type: 'window', includeUncontrolled: true });
    const page = pages.find(({ url }) => url.includes(path.split('/').slice(0, 3).join('/'))) ?? pages[0];
    if (!page) return self.clients.openWindow(path);
    await page.navigate?.(path).catch(() => {});
    return page.focus();
  })());
});
