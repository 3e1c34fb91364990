"use strict";
// Sorting and filtering of the table of learners. Static text: nothing of a learner's is in here,
// and text is only ever moved as text. Without it the table is complete, sorted by name.
(() => {
  const table = document.getElementById("learners-table");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  const text = document.getElementById("filter-text");
  const status = document.getElementById("filter-status");
  const count = document.getElementById("filter-count");

  const orderOf = (row, column) => row.cells[column].dataset.order;

  function compare(a, b, kind) {
    if (kind === "number") return Number(a) - Number(b);
    return a.localeCompare(b, "en", { numeric: true, sensitivity: "base" });
  }

  function sortBy(column, direction) {
    const kind = heads[column].dataset.kind;
    const sorted = rows.slice().sort((left, right) => {
      const a = orderOf(left, column);
      const b = orderOf(right, column);
      // What has no value comes last, whichever way the column is sorted.
      if (a === "" || b === "") return (a === "") - (b === "");
      return direction * compare(a, b, kind);
    });
    body.append(...sorted);
    heads.forEach((head, i) => {
      if (i === column) {
        head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      } else {
        head.removeAttribute("aria-sort");
      }
    });
  }

  function filter() {
    const words = text.value.toLowerCase().normalize("NFC").split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits =
        words.every((word) => row.dataset.search.includes(word)) &&
        (status.value === "" || row.dataset.status === status.value);
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    count.textContent = `${shown} of ${rows.length} shown`;
  }

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => {
      sortBy(column, head.getAttribute("aria-sort") === "ascending" ? -1 : 1);
    });
    head.append(button);
  });
  table.classList.add("sortable");
  sortBy(0, 1);
  text.addEventListener("input", filter);
  status.addEventListener("change", filter);
  document.getElementById("filter").hidden = false;
  filter();
})();
