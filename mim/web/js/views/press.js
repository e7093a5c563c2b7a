/* Asking for a menu: the context menu key or click, or a long press. */

const LONG_PRESS_MS = 450;

/** Call `open(found, x, y)` when a menu is wanted of whatever `find(target)` gives. */
export function onMenu(element, find, open) {
  let timer = 0;
  let pressed = false;
  element.addEventListener('contextmenu', (event) => {
    const found = find(event.target);
    if (!found || event.target.closest('a')) return;
    event.preventDefault();
    const box = found.getBoundingClientRect();
    if (!pressed) open(found, event.clientX || box.left + 40, event.clientY || box.bottom);
  });
  element.addEventListener('pointerdown', (event) => {
    pressed = false;
    if (event.pointerType === 'mouse') return;
    const found = find(event.target);
    if (found) {
      timer = setTimeout(() => {
        pressed = true;
        open(found, event.clientX, event.clientY);
      }, LONG_PRESS_MS);
    }
  });
  for (const name of ['pointerup', 'pointermove', 'pointercancel']) {
    element.addEventListener(name, (event) => {
      if (name !== 'pointermove' || Math.hypot(event.movementX, event.movementY) > 4) clearTimeout(timer);
    });
  }
  element.addEventListener('click', (event) => { // the click that ends a long press is no click
    if (!pressed) return;
    pressed = false;
    event.preventDefault();
    event.stopPropagation();
  }, true);
}
