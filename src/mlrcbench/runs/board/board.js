"use strict";
(() => {
  /** What a row is sorted by in a column: a number if it is one, otherwise a text; null without a value. */
  function key(row, index) {
    const text = row.cells[index].dataset.value;
    if (text === undefined) return null;
    const value = Number(text);
    return text === "" || Number.isNaN(value) ? text : value;
  }

  /** The order of two keys; rows without a value come last in both directions. */
  function compare(one, two, ascending) {
    if (one === null || two === null) return (one === null) - (two === null);
    const order = typeof one === "number" && typeof two === "number" ? one - two : String(one).localeCompare(String(two));
    return ascending ? order : -order;
  }

  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    heads.forEach((head, index) => {
      head.querySelector("button").addEventListener("click", () => {
        const ascending = head.getAttribute("aria-sort") === "descending"
          || (head.getAttribute("aria-sort") === null && index < 2);
        const rows = [...body.rows].sort((one, two) => compare(key(one, index), key(two, index), ascending));
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        body.replaceChildren(...rows);
      });
    });
  }

  const filter = document.getElementById("filter");
  const rows = [...document.getElementById("entries").tBodies[0].rows];
  function show() {
    const terms = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !terms.every((term) => text.includes(term));
      count += row.hidden ? 0 : 1;
    }
    document.getElementById("shown").textContent = `${count} of ${rows.length} shown`;
  }
  filter.addEventListener("input", show);
  show();
})();
