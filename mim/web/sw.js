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
