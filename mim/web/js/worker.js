/* The service worker that keeps the client itself for offline, and a hint when a newer client waits. */

export const news = new EventTarget();
let registration = null;

// The one URL that may become a worker (require-trusted-types-for).
const policy = globalThis.trustedTypes?.createPolicy('mim', { createScriptURL: (url) => (url === '/sw.js' ? url : '') });

export async function startWorker() {
  if (!navigator.serviceWorker) return; // a page that is not secure
  const first = !navigator.serviceWorker.controller;
  let reloading = first;
  navigator.serviceWorker.addEventListener('controllerchange', () => {
    if (!reloading) location.reload();
    reloading = false;
  });
  navigator.serviceWorker.register(policy ? policy.createScriptURL('/sw.js') : '/sw.js', { updateViaCache: 'none' }).then((made) => {
    registration = made;
    const tell = () => { if (made.waiting && navigator.serviceWorker.controller) news.dispatchEvent(new Event('waiting')); };
    tell();
    made.addEventListener('updatefound', () => made.installing?.addEventListener('statechange', tell));
  }, () => {});
}

/** Go to the newest client: what waits takes over, and pages load again. */
export async function update() {
  const made = registration;
  if (made) await made.update().catch(() => {});
  if (made?.waiting) made.waiting.postMessage('take over');
  else location.reload();
}
