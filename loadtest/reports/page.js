// The values below the pointer. Without it everything is there but that.
for (const figure of document.querySelectorAll("figure[data-hover]")) {
  const lines = JSON.parse(figure.dataset.hover).filter((line) => line.x.length);
  if (!lines.length) continue;
  const area = figure.querySelector(".area");
  const added = (name) => {
    const made = document.createElement("div");
    made.className = name;
    made.hidden = true;
    made.setAttribute("aria-hidden", "true");
    return area.appendChild(made);
  };
  const cursor = added("cursor");
  const spots = lines.map((line) => added(`spot c${line.colour}`));
  const tip = added("tip");

  const nearest = (places, place) => {
    let low = 0;
    let high = places.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (places[middle] < place) low = middle;
      else high = middle;
    }
    return place - places[low] <= places[high] - place ? low : high;
  };

  const show = ({ clientX }) => {
    const box = area.getBoundingClientRect();
    const place = Math.min(Math.max((clientX - box.left) / box.width, 0), 1);
    const found = lines.map((line) => nearest(line.x, place));
    const at = lines[0].x[found[0]];
    const head = document.createElement("strong");
    head.textContent = lines[0].at[found[0]];
    const rows = lines.map((line, number) => {
      const row = document.createElement("div");
      row.append(line.name, Object.assign(document.createElement("b"), { textContent: line.is[found[number]] }));
      return row;
    });
    tip.replaceChildren(head, ...rows);
    spots.forEach((spot, number) => {
      spot.style.left = `${lines[number].x[found[number]] * 100}%`;
      spot.style.top = `${lines[number].y[found[number]] * 100}%`;
    });
    cursor.style.left = `${at * 100}%`;
    tip.style.left = at < 0.5 ? `calc(${at * 100}% + 12px)` : "auto";
    tip.style.right = at < 0.5 ? "auto" : `calc(${(1 - at) * 100}% + 12px)`;
    for (const each of [cursor, tip, ...spots]) each.hidden = false;
  };
  const hide = () => {
    for (const each of [cursor, tip, ...spots]) each.hidden = true;
  };
  figure.addEventListener("pointermove", show);
  figure.addEventListener("pointerdown", show);
  figure.addEventListener("pointerleave", hide);
}
