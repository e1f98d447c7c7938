(() => {
  "use strict";
  const table = document.getElementById("entries");
  const body = table.tBodies[0];
  const search = document.getElementById("search");
  const found = document.getElementById("found");
  const rows = [...body.rows].map((row) => ({ row, text: row.dataset.text.toLowerCase() }));

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { row, text } of rows) {
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    found.textContent = `${shown} of ${rows.length}`;
  }

  function sortBy(column) {
    const heads = table.tHead.rows[0].cells;
    const direction = heads[column].getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const head of heads) head.setAttribute("aria-sort", "none");
    heads[column].setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.value;
    const order = (a, b) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      return direction * (Number.isNaN(Number(a) - Number(b)) ? a.localeCompare(b, "en", { numeric: true }) : Number(a) - Number(b));
    };
    body.append(...[...body.rows].sort((a, b) => order(key(a), key(b))));
  }

  function ages() {
    const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
    for (const time of document.querySelectorAll("time")) {
      const seconds = Math.max(0, (Date.now() - Date.parse(time.dateTime)) / 1000);
      const [unit, size] = units.find(([, least]) => seconds >= least) ?? ["s", 1];
      time.title = time.dateTime;
      time.textContent = `${Math.floor(seconds / size)}\u00a0${unit} ago`;
    }
  }

  search.addEventListener("input", filter);
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (head) sortBy(head.cellIndex);
  });
  ages();
  setInterval(ages, 60000);
  filter();
})();
