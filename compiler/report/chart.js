(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("chart-data").textContent);
  const host = document.getElementById("chart");
  const tooltip = document.getElementById("tooltip");
  const table = document.getElementById("candidates");
  const space = new DOMParser().parseFromString("<svg></svg>", "text/html").querySelector("svg").namespaceURI;
  let selected = document.querySelector(".detail:not([hidden])").dataset.id;
  let marks = [];

  function add(parent, name, attributes, text) {
    const node = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }

  const scale = (domain, range) => (value) =>
    range[0] + ((value - domain[0]) / (domain[1] - domain[0])) * (range[1] - range[0]);

  function ticks([low, high], wanted) {
    const raw = (high - low) / wanted;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw * 0.999);
    const digits = Math.max(0, -Math.floor(Math.log10(step)) + (Math.abs(step / power - 2.5) < 0.01 ? 1 : 0));
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
    return found.map((value) => ({ value, text: value.toFixed(digits) }));
  }

  /* The places where a latency is 2x, 3x, ... shorter than the dense model's. */
  function speedups(dense, [low, high], x) {
    const steps = [1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50];
    const all = steps.map((s) => ({ text: `${s}×`, at: dense.x / s })).filter((t) => t.at >= low && t.at <= high);
    const roomy = [];
    for (const tick of all) if (!roomy.some((other) => Math.abs(x(other.at) - x(tick.at)) < 38)) roomy.push(tick);
    return roomy;
  }

  function axes(svg, box, x, y) {
    for (const tick of ticks(data.y, box.height > 360 ? 6 : 4)) {
      add(svg, "line", { class: "grid-line", x1: box.left, x2: box.right, y1: y(tick.value), y2: y(tick.value) });
      add(svg, "text", { class: "tick", x: box.left - 8, y: y(tick.value) + 4, "text-anchor": "end" }, tick.text);
    }
    for (const tick of ticks(data.x, box.width > 620 ? 9 : 5)) {
      add(svg, "line", { class: "stub", x1: x(tick.value), x2: x(tick.value), y1: box.bottom, y2: box.bottom + 5 });
      add(svg, "text", { class: "tick", x: x(tick.value), y: box.bottom + 20, "text-anchor": "middle" }, tick.text);
    }
    add(svg, "line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom });
    add(svg, "text", { class: "title", x: box.right, y: box.bottom + 40, "text-anchor": "end" }, `${data.x_label} →`);
    add(svg, "text", { class: "title", x: 2, y: 14 }, `↑ ${data.y_label}`);
  }

  function denseLines(svg, box, x, y) {
    if (!data.dense) return;
    const [dx, dy] = [x(data.dense.x), y(data.dense.y)];
    add(svg, "line", { class: "dense-line", x1: dx, x2: dx, y1: box.top, y2: box.bottom });
    add(svg, "line", { class: "dense-line", x1: box.left, x2: box.right, y1: dy, y2: dy });
    for (const tick of speedups(data.dense, data.x, x)) {
      add(svg, "line", { class: "stub", x1: x(tick.at), x2: x(tick.at), y1: box.top - 5, y2: box.top });
      add(svg, "text", { class: "tick", x: x(tick.at), y: box.top - 10, "text-anchor": "middle" }, tick.text);
    }
    add(svg, "text", { class: "title", x: box.right, y: 14, "text-anchor": "end" }, "times faster than dense");
  }

  /* The staircase through the points that no other point dominates. */
  function staircase(svg, box, x, y) {
    let path = "";
    let lowest = Infinity;
    for (const point of [...data.points].sort((a, b) => a.x - b.x || a.y - b.y)) {
      if (point.y >= lowest) continue;
      path += path ? `H${x(point.x)}V${y(point.y)}` : `M${x(point.x)} ${y(point.y)}`;
      lowest = point.y;
    }
    if (path) add(svg, "path", { class: "stairs", d: path });
  }

  function mark(svg, point, x, y, isDense) {
    const words = point.tip.map((row) => row.join(" ")).join(", ");
    const group = add(svg, "g", {
      class: ["mark", isDense && "dense", point.best && "best", !point.measured && "hollow"].filter(Boolean).join(" "),
      tabindex: 0, role: "button", "aria-label": `${point.id}: ${words}`, "data-id": point.id,
    });
    const [px, py] = [x(point.x), y(point.y)];
    const shift = x(point.predicted) - px;
    if (point.measured && Math.abs(shift) > 1) {
      add(group, "path", { class: "whisker", d: `M${px} ${py}h${shift}m0 -5v10` });
    }
    add(group, "circle", { class: "ring", cx: px, cy: py, r: 12 });
    if (isDense) add(group, "path", { class: "diamond", d: `M${px} ${py - 8}l8 8-8 8-8-8z` });
    else add(group, "circle", { class: "dot", cx: px, cy: py, r: point.best ? 7.5 : 5.5 });
    group.addEventListener("focus", () => showTip(group));
    group.addEventListener("blur", hideTip);
    group.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); select(point.id); }
      if (event.key === "Escape") hideTip();
    });
    return { group, point, px, py };
  }

  /* Names stand below and to the left of their points, where a front has nothing; those that would collide are left out. */
  function labels(svg, box) {
    const taken = marks.map(({ px, py }) => [px - 7, py - 7, px + 7, py + 7]);
    const rank = ({ point }) => (point.best ? 0 : point === data.dense ? 1 : 2);
    for (const { point, px, py } of [...marks].sort((a, b) => rank(a) - rank(b))) {
      const text = point.best ? `${point.id}, ${data.chosen_as}` : point.id;
      const width = text.length * 7 + 2;
      const gap = point.best || point === data.dense ? 14 : 9;
      const spots = [[px - gap - width, py + 3], [px + gap + 1, py - 20], [px - gap - width, py - 21]];
      if (point === data.dense) spots.unshift([px - 8 - width, py - 23], [px - 8 - width, py - 40]);
      const spot = spots.find(([left, top]) => left > box.left && left + width < box.right && top + 15 < box.bottom - 1
        && !taken.some((t) => left < t[2] && left + width > t[0] && top < t[3] && top + 15 > t[1]));
      if (!spot) continue;
      taken.push([spot[0], spot[1], spot[0] + width, spot[1] + 15]);
      const atLeft = spot[0] < px;
      add(svg, "text", {
        class: `label${point.best ? " best" : ""}`, x: atLeft ? spot[0] + width : spot[0], y: spot[1] + 12,
        "text-anchor": atLeft ? "end" : "start", "aria-hidden": "true",
      }, text);
    }
  }

  function draw() {
    const width = host.clientWidth;
    const height = Math.round(Math.min(500, Math.max(320, width * 0.54)));
    const box = { left: 46, right: width - 14, top: 50, bottom: height - 48, width, height };
    const svg = document.createElementNS(space, "svg");
    for (const [key, value] of Object.entries({ viewBox: `0 0 ${width} ${height}`, role: "group" })) svg.setAttribute(key, value);
    svg.setAttribute("aria-label", "Error on validation against latency, one mark a candidate");
    const x = scale(data.x, [box.left, box.right]);
    const y = scale(data.y, [box.bottom - 14, box.top]);
    axes(svg, box, x, y);
    for (const [cx, cy] of data.cloud) add(svg, "circle", { class: "mote", cx: x(cx), cy: y(cy), r: 2.2 });
    denseLines(svg, box, x, y);
    staircase(svg, box, x, y);
    const ordered = [...data.points].sort((a, b) => a.x - b.x);
    marks = ordered.map((point) => mark(svg, point, x, y, false));
    if (data.dense) marks.push(mark(svg, data.dense, x, y, true));
    labels(svg, box);
    svg.addEventListener("pointermove", (event) => hover(nearest(event)));
    svg.addEventListener("pointerleave", () => hover(null));
    svg.addEventListener("click", (event) => { const near = nearest(event); if (near) select(near.point.id); });
    host.replaceChildren(svg);
    paint();
  }

  function nearest(event) {
    const frame = host.firstElementChild.getBoundingClientRect();
    const distance = ({ px, py }) => Math.hypot(px - (event.clientX - frame.left), py - (event.clientY - frame.top));
    const best = [...marks].sort((a, b) => distance(a) - distance(b))[0];
    return best && distance(best) < 26 ? best : null;
  }

  function hover(near) {
    for (const { group } of marks) group.classList.toggle("near", group === near?.group);
    host.classList.toggle("pointing", Boolean(near));
    if (near) showTip(near.group);
    else hideTip();
  }

  function showTip(group) {
    const { point: shown } = marks.find((entry) => entry.group === group);
    const rows = document.createElement("dl");
    for (const [name, value] of shown.tip) {
      for (const [tag, text] of [["dt", name], ["dd", value]]) {
        rows.append(Object.assign(document.createElement(tag), { textContent: text }));
      }
    }
    const title = Object.assign(document.createElement("strong"), { textContent: shown.best ? `${shown.id}, ${data.chosen_as}` : shown.id });
    tooltip.replaceChildren(title, rows);
    tooltip.hidden = false;
    place(group.querySelector(".ring").getBoundingClientRect());
  }

  function place(ring) {
    const { width, height } = tooltip.getBoundingClientRect();
    const page = document.documentElement;
    const right = ring.right + 10 + width < page.clientWidth;
    const left = right ? ring.right + 10 : Math.max(8, ring.left - 10 - width);
    const above = ring.top - height - 6;
    tooltip.style.left = `${Math.min(left, page.clientWidth - width - 8) + scrollX}px`;
    tooltip.style.top = `${(above > 4 ? above : ring.bottom + 6) + scrollY}px`;
  }

  function hideTip() { tooltip.hidden = true; }

  function select(id) {
    selected = id;
    for (const detail of document.querySelectorAll(".detail")) detail.hidden = detail.dataset.id !== id;
    document.getElementById("details").scrollTop = 0;
    paint();
  }

  function paint() {
    for (const { group, point: shown } of marks) {
      group.classList.toggle("selected", shown.id === selected);
      group.setAttribute("aria-pressed", shown.id === selected);
    }
    for (const row of table.tBodies[0].rows) row.classList.toggle("selected", row.dataset.id === selected);
  }

  function sortBy(column) {
    const head = table.tHead.rows[0].cells[column];
    const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const cell of table.tHead.rows[0].cells) cell.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.value;
    const order = (a, b) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      return direction * (Number.isNaN(Number(a) - Number(b)) ? a.localeCompare(b) : Number(a) - Number(b));
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => order(key(a), key(b))));
  }

  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (head) sortBy(head.cellIndex);
  });
  table.tBodies[0].addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (!row) return;
    select(row.dataset.id);
    document.getElementById("details").scrollIntoView({ block: "nearest" });
  });

  let drawn = 0;
  new ResizeObserver(() => {
    if (host.clientWidth === drawn || !host.clientWidth) return;
    drawn = host.clientWidth;
    hideTip();
    draw();
  }).observe(host);
})();
