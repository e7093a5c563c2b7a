/* What a person chose for this browser. */

const KEY = 'mim.theme';

export const theme = () => localStorage.getItem(KEY) ?? 'auto';

export function applyTheme(next) {
  if (next) localStorage.setItem(KEY, next);
  const now = theme();
  if (now === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = now;
}
