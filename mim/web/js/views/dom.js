/* Making elements. Every string becomes a text node, so nothing that people wrote can become markup. */

/**
 * `h('button.primary', {type: 'button', onclick: f}, 'Send', icon('send'))`
 * Properties that begin with `on` are listeners, booleans set or leave out the attribute, null leaves it out.
 */
export function h(spec, properties = {}, ...children) {
  const [tag, ...classes] = spec.split('.');
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(' ');
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A name or title: isolated, so that its writing direction touches nothing around it. */
export const bdi = (text, spec = 'bdi') => h(spec, { dir: 'auto' }, text);

export const replace = (element, ...children) => element.replaceChildren(
  ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));

/** Call `work` once in the next frame, however often this is asked for. */
export function eachFrame(work) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    // A hidden tab has no frames.
    const run = () => {
      if (!due) return;
      due = false;
      work();
    };
    if (document.hidden) setTimeout(run, 100);
    else requestAnimationFrame(run);
  };
}

const SVG = 'http://www.w3.org/2000/svg';

const SHAPES = { // on 24 × 24
  back: 'M15 5l-7 7 7 7', close: 'M6 6l12 12M18 6L6 18', send: 'M4 12l16-7-6 16-3-7z',
  search: 'M11 4a7 7 0 1 1 0 14 7 7 0 0 1 0-14zM16 16l4.500 4.500', add: 'M12 5v14M5 12h14',
  menu: 'M4 7h16M4 12h16M4 17h16', more: 'M5 12h.01M12 12h.01M19 12h.01', down: 'M12 5v13M6 13l6 6 6-6',
  reply: 'M9 6L4 11l5 5M4 11h9a7 7 0 0 1 7 7v1', edit: 'M4 20l1-5L16 4l4 4L9 19z',
  trash: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13',
  smile: 'M12 3a9 9 0 1 1 0 18 9 9 0 0 1 0-18zM8.500 14.500c2 2.200 5 2.200 7 0M9 10h.01M15 10h.01',
  pin: 'M9 4h6l-1 6 3 3H7l3-3zM12 13v7', mute: 'M6 16V11a6 6 0 0 1 9-5M18 10v6M4 16h13M10 19h4M4 4l16 16',
  people: 'M9 5a3 3 0 1 1 0 6 3 3 0 0 1 0-6zM3 19c0-4 3-6 6-6s6 2 6 6M16 5.500a3 3 0 0 1 0 5.500M17 13.500c2.500.500 4 2.500 4 5.500',
  clock: 'M12 4a8 8 0 1 1 0 16 8 8 0 0 1 0-16zM12 8v4l3 2', warn: 'M12 4l9 16H3zM12 10v5M12 17.500h.01',
  notice: 'M4 10v4h3l7 4V6L7 10zM17 9c1.500 1.500 1.500 4.500 0 6',
};

/** More icons, of parts that are loaded when they are needed. */
export const addIcons = (shapes) => Object.assign(SHAPES, shapes);

export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', `icon icon-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', SHAPES[name]);
  svg.append(path);
  return svg;
}

export const iconButton = (name, label, onclick, properties = {}) => h('button.icon-button',
  { type: 'button', 'aria-label': label, title: label, onclick, ...properties }, icon(name));
