/* A list of any length of which only what is seen is in the page.

   Rows are numbered from `low` to `high`. Heights are measured when a row is shown and estimated before; a Fenwick
   tree adds them up, so that the place of any row is known at once. Above and below the rows that are shown lies empty
   space of the height of the rest. When heights turn out otherwise, or rows come in above, the row at the top of
   the view stays where it is on the screen. */

const OVERSCAN = 600;
const NEAR_BOTTOM = 48;

class Heights {
  constructor(estimate) {
    this.estimate = estimate;
    this.reset(0);
  }

  reset(length) {
    this.length = length;
    this.capacity = Math.max(64, 2 ** Math.ceil(Math.log2(length + 1)));
    this.values = new Float64Array(this.capacity).fill(0, length).fill(this.estimate, 0, length);
    this.#build();
  }

  #build() {
    this.tree = new Float64Array(this.capacity + 1);
    for (let index = 1; index <= this.capacity; index++) {
      this.tree[index] += this.values[index - 1];
      const parent = index + (index & -index);
      if (parent <= this.capacity) this.tree[parent] += this.tree[index];
    }
  }

  resize(length) {
    if (length > this.capacity) {
      const { values } = this;
      const old = this.length;
      this.reset(length);
      this.values.set(values.subarray(0, old));
      this.#build();
      return;
    }
    for (let index = this.length; index < length; index++) this.set(index, this.estimate);
    for (let index = length; index < this.length; index++) this.set(index, 0);
    this.length = length;
  }

  set(index, height) {
    const more = height - this.values[index];
    if (Math.abs(more) < 0.01) return;
    this.values[index] = height;
    for (let node = index + 1; node <= this.capacity; node += node & -node) this.tree[node] += more;
  }

  /** Height of all rows before `index`. */
  before(index) {
    let sum = 0;
    for (let node = Math.min(index, this.capacity); node > 0; node -= node & -node) sum += this.tree[node];
    return sum;
  }

  /** The row at this distance from the top. */
  at(distance) {
    let [node, rest] = [0, distance];
    for (let step = this.capacity; step; step >>= 1) {
      if (node + step <= this.capacity && this.tree[node + step] <= rest) {
        node += step;
        rest -= this.tree[node];
      }
    }
    return Math.max(0, Math.min(node, this.length - 1));
  }
}

export class VirtualList {
  /** `row(index)`: {key, sign, build()}; a row is built anew when its sign differs. `shown(first, last)` after each. */
  constructor({ scroller, list, row, shown, estimate = 56 }) {
    Object.assign(this, { scroller, list, row, shown });
    this.heights = new Heights(estimate);
    this.low = 0;
    this.high = -1;
    this.nodes = new Map(); // key → {sign, node, index}
    this.stuck = true; // at the bottom, and to stay there
    this.scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.observer = new ResizeObserver(() => this.render());
    this.observer.observe(scroller);
    this.observer.observe(list);
  }

  close() {
    this.observer.disconnect();
    this.closed = true;
  }

  setRange(low, high) {
    if (low === this.low) this.heights.resize(Math.max(0, high - low + 1));
    else {
      const old = this.heights.values.slice(0, this.heights.length);
      const shift = this.low - low;
      this.heights.reset(Math.max(0, high - low + 1));
      if (shift > 0) old.forEach((height, index) => { if (index + shift < this.heights.length) this.heights.set(index + shift, height); });
    }
    this.low = low;
    this.high = high;
  }

  get atBottom() {
    const { scrollTop, clientHeight, scrollHeight } = this.scroller;
    return scrollTop + clientHeight >= scrollHeight - NEAR_BOTTOM;
  }

  #scrolled() {
    this.stuck = this.atBottom;
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      this.render();
    });
  }

  toBottom() {
    this.stuck = true;
    this.render();
  }

  /** Bring a row into view, its top at `share` of the height. */
  toRow(index, share = 0.3) {
    this.stuck = false;
    for (let pass = 0; pass < 3; pass++) {
      this.scroller.scrollTop = this.heights.before(index - this.low) - this.scroller.clientHeight * share;
      this.#render();
    }
    this.stuck = this.atBottom;
    this.#tell();
  }

  render() {
    if (this.closed || this.rendering) return;
    this.rendering = true;
    this.#render();
    this.rendering = false;
    this.#tell();
  }

  #tell() {
    const box = this.scroller.getBoundingClientRect();
    let [first, last] = [Infinity, -Infinity];
    for (const { node, index } of this.nodes.values()) {
      const { top, bottom } = node.getBoundingClientRect();
      if (bottom <= box.top || top >= box.bottom) continue;
      first = Math.min(first, index);
      if (bottom <= box.bottom + 8 || top < box.top) last = Math.max(last, index); // its end was seen
    }
    this.shown(first, last);
  }

  #render() {
    for (let pass = 0; pass < 4; pass++) if (this.#pass()) break;
  }

  /** True when what is shown fills the view. */
  #pass() {
    const { scroller, heights, low } = this;
    const size = scroller.clientHeight;
    const top = this.stuck ? Math.max(0, heights.before(heights.length) - size) : scroller.scrollTop;
    const anchor = this.stuck ? null : this.#anchor();
    const first = low + heights.at(Math.max(0, top - OVERSCAN));
    const last = heights.length ? low + heights.at(top + size + OVERSCAN) : low - 1;
    this.#place(first, last);
    this.#measure();
    this.list.style.paddingTop = `${heights.before(first - low)}px`;
    this.list.style.paddingBottom = `${heights.before(heights.length) - heights.before(last + 1 - low)}px`;
    if (this.stuck) scroller.scrollTop = scroller.scrollHeight;
    else if (anchor) this.#keep(anchor);
    const now = scroller.scrollTop;
    return heights.before(first - low) <= Math.max(0, now - 1) + 1
      && (last >= this.high || heights.before(last + 1 - low) >= now + size);
  }

  /** The topmost row in view and where it is. */
  #anchor() {
    const { top } = this.scroller.getBoundingClientRect();
    let best = null;
    for (const { node, index } of this.nodes.values()) {
      const box = node.getBoundingClientRect();
      if (box.bottom > top && (!best || index < best.index)) best = { index, offset: box.top - top };
    }
    return best;
  }

  #keep({ index, offset }) {
    for (const { node, index: shown } of this.nodes.values()) {
      if (shown !== index) continue;
      const moved = node.getBoundingClientRect().top - this.scroller.getBoundingClientRect().top - offset;
      if (Math.abs(moved) >= 1) this.scroller.scrollTop += moved;
      return;
    }
  }

  #place(first, last) {
    const wanted = new Map();
    let after = null; // the node that the next one follows
    const old = this.nodes;
    const fresh = [];
    for (let index = first; index <= last; index++) {
      const { key, sign, build } = this.row(index);
      let entry = old.get(key);
      if (!entry || entry.sign !== sign) {
        const node = build();
        if (entry) {
          const focused = entry.node === document.activeElement;
          entry.node.replaceWith(node);
          if (focused) node.focus({ preventScroll: true });
        }
        entry = { sign, node };
      }
      entry.index = index;
      wanted.set(key, entry);
      fresh.push(entry.node);
    }
    for (const [key, { node }] of old) if (!wanted.has(key)) node.remove();
    for (const node of fresh) {
      const place = after ? after.nextSibling : this.list.firstChild;
      if (node !== place) this.list.insertBefore(node, place);
      after = node;
    }
    this.nodes = wanted;
  }

  #measure() {
    for (const { node, index } of this.nodes.values()) {
      this.heights.set(index - this.low, node.getBoundingClientRect().height);
    }
  }

  node(index) {
    for (const entry of this.nodes.values()) if (entry.index === index) return entry.node;
    return null;
  }
}
