// Values under the pointer and on focus, and tables that sort. The page is whole without it.

const tip = document.body.appendChild(document.createElement("p"));
tip.id = "tip";
tip.hidden = true;
tip.setAttribute("role", "status");

/** What can be pointed at in a chart: single marks, and the points of curves. */
function spotsOf(chart) {
  return [...chart.querySelectorAll(":scope > g")].flatMap((thing) => {
    const title = thing.querySelector("title"), name = title.textContent;
    title.remove(); // the browser would show it beside ours
    if (!thing.dataset.points) return [{ thing, mark: thing.querySelector(".mark") ?? thing.querySelector(".line"), text: name }];
    const path = thing.querySelector(".line");
    const places = path.getAttribute("d").slice(1).split("L").map((place) => place.split(" ").map(Number));
    return thing.dataset.points.split(";").map((said, i) => ({ thing, path, at: places[i], text: `${name}, ${said}` }));
  });
}

/** Where a spot is in the window. */
function place({ mark, path, at }) {
  if (path) return new DOMPoint(...at).matrixTransform(path.getScreenCTM());
  const { left, top, width, height } = mark.getBoundingClientRect();
  return { x: left + width / 2, y: top + height / 2 };
}

function hide() {
  tip.hidden = true;
  for (const thing of document.querySelectorAll(".chart .on")) thing.classList.remove("on");
}

function show(spot) {
  hide();
  spot.thing.classList.add("on");
  tip.textContent = spot.text;
  tip.hidden = false;
  const { x, y } = place(spot), widest = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${scrollX + Math.max(8, Math.min(x - tip.offsetWidth / 2, widest))}px`;
  tip.style.top = `${scrollY + (y > tip.offsetHeight + 20 ? y - tip.offsetHeight - 14 : y + 14)}px`;
}

function prepare(chart) {
  const spots = spotsOf(chart);
  if (!spots.length) return;
  let now = 0;
  const go = (index) => show(spots[(now = Math.max(0, Math.min(index, spots.length - 1)))]);
  const point = (event) => {
    const own = spots.findIndex(({ thing, path }) => !path && thing.contains(event.target));
    const distance = (spot) => Math.hypot(place(spot).x - event.clientX, place(spot).y - event.clientY);
    const distances = own < 0 ? spots.map(distance) : [];
    go(own < 0 ? distances.indexOf(Math.min(...distances)) : own);
  };
  chart.tabIndex = 0;
  chart.addEventListener("pointermove", point);
  chart.addEventListener("pointerdown", point);
  chart.addEventListener("pointerleave", hide);
  chart.addEventListener("focus", () => go(now));
  chart.addEventListener("blur", hide);
  chart.addEventListener("keydown", (event) => {
    const to = {
      ArrowRight: now + 1, ArrowDown: now + 1, ArrowLeft: now - 1, ArrowUp: now - 1, Home: 0, End: spots.length - 1,
    }[event.key];
    if (event.key === "Escape") hide();
    if (to === undefined) return;
    event.preventDefault();
    go(to);
  });
}

/** Sort by a column: numbers from the highest, words by the alphabet, then the other way, then as it was. */
function sortable(table) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0], rows = [...body.rows];
  heads.forEach((head, column) => {
    const button = document.createElement("button"), cell = (row) => row.cells[column];
    const numbers = rows.some((row) => cell(row).dataset.place);
    const known = (row) => !numbers || cell(row).dataset.place !== undefined;
    const rising = (one, other) => numbers
      ? cell(one).dataset.place - cell(other).dataset.place
      : cell(one).textContent.localeCompare(cell(other).textContent, "en", { numeric: true });
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const orders = numbers ? ["descending", "ascending"] : ["ascending", "descending"];
      const order = orders[orders.indexOf(head.getAttribute("aria-sort")) + 1];
      for (const other of heads) other.removeAttribute("aria-sort");
      if (order) head.setAttribute("aria-sort", order);
      const sorted = !order ? rows : rows.filter(known).sort((one, other) => (order === "ascending" ? 1 : -1) * rising(one, other));
      body.append(...sorted, ...(order ? rows.filter((row) => !known(row)) : []));
    });
  });
}

document.querySelectorAll(".chart").forEach(prepare);
document.querySelectorAll("table").forEach(sortable);
addEventListener("resize", hide);
