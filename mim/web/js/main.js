/* Where it begins: whose account this window shows, and the service worker. */

import { App } from './views/app.js';
import { applyTheme } from './views/settings-store.js';
import { startWorker } from './worker.js';
import { choose } from './i18n/index.js';

applyTheme();
await choose();
await startWorker();
await new App(document.getElementById('app')).start();
