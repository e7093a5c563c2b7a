/* The words of the client. A text is a string, or a function of what it tells. */

const LANGUAGES = {
  en: { words: () => import('./en.js'), more: () => import('./en-more.js') },
  ko: { words: () => import('./ko.js'), more: () => import('./ko-more.js') },
};
const KEY = 'mim.language';

export let language = 'en';
const words = {};

export const chosen = () => localStorage.getItem(KEY);

/** Load the chosen language, else the first of the browser's that is there. */
export async function choose() {
  const wishes = [chosen(), ...navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase())];
  language = wishes.find((wish) => wish in LANGUAGES) ?? 'en';
  document.documentElement.lang = language;
  Object.assign(words, (await LANGUAGES[language].words()).words);
}

/** Load the words of the parts that are not there from the beginning. */
export async function more() {
  Object.assign(words, (await LANGUAGES[language].more()).words);
}

export function set(next) {
  if (next) localStorage.setItem(KEY, next);
  else localStorage.removeItem(KEY);
}

export function t(key, values) {
  const text = words[key];
  if (text === undefined) return key;
  return typeof text === 'function' ? text(values) : text;
}
